"""The model that a run keeps: a stage's result replaces it only where the clients judge so.

A stage's result is *offered* when it is made, and measured and *settled* in a step of its own:
killed in between, a run goes on with the judgement. Both the offered model and the one kept so far
are in the checkpoint until then. The rule is in :mod:`server_app.judgement`.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from foundation.models import interpolated
from questions.ask import Answers
from questions.evaluation import Candidates, EvaluationRequest, Scores

from .federation import Federation
from .judgement import STEPS, Verdict, decide, tallies
from .measuring import CLIENTS, SERVER, Figures

log = logging.getLogger("flwr.fedf2dg")


class Acceptance:
    """Keeps the best model of a run, by the clients' judgement.

    Parameters
    ----------
    federation : Federation
        After its last federated round, or resumed behind it.
    """

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._judges = federation.configuration.acceptance == "clients"
        if self._judges and federation.state.kept is None:
            federation.state.kept = federation.state.global_state

    def offer(self, stage: str, needs_proof: bool = True) -> None:
        """Note that the global model is now a stage's result, for :meth:`settle` to judge.

        Where there are judges they measure it in the same message: each costs a site a process.
        """
        federation, ledger = self._federation, self._federation.ledger
        if self._judges:
            federation.measure_statistics(stage)
            ledger.offered, ledger.needs_proof = stage, needs_proof
        else:
            ledger.kept = stage
            log.info("%s model: %s", stage, federation.close_stage(stage).sentence)

    def settle(self) -> None:
        """Judge what was offered, if anything was, and go on from what is kept.

        The judgement is committed under the name of the step that offered it, and ``-judged``.
        """
        federation, ledger = self._federation, self._federation.ledger
        stage, ledger.offered = ledger.offered, None
        if stage is None:
            return
        started = time.perf_counter()
        before, after = federation.state.kept, federation.state.global_state
        assert before is not None
        with ledger.timed("judgement"):
            answers = federation.ask(
                EvaluationRequest(Candidates(before, after, STEPS)),
                federation.progress(f"judgement of the {stage} model", "clients"),
            )
            measured = federation.measuring.by_the_way(
                federation.global_model(), answers, len(STEPS) - 1
            )
            log.info("%s model: %s", stage, federation.note_figures(stage, measured).sentence)
            participants = federation.participants
            verdict = decide(
                tallies(Scores.sum(answers.parts)),
                before=ledger.kept,
                stage=stage,
                clients=len(answers.valid),
                held_out=sum(sum(participants[c].held_out) for c in participants.clients),
                needs_proof=ledger.needs_proof,
            )
            kept = interpolated(before, after, verdict.step)
            federation.set_global(kept)
            federation.state.kept = kept
            figures = self._figures_of(verdict)
            also_chose = figures.by == CLIENTS
            ledger.note_result(
                "selected", figures.accuracy, **figures.measured, also_chose=also_chose
            )
        if verdict.chosen:
            ledger.kept = stage
        self._note(verdict, answers, time.perf_counter() - started)
        federation.commit(f"{federation.state.completed[-1]}-judged")

    def _figures_of(self, verdict: Verdict) -> Figures:
        """Return the figures of what is kept; the clients have just measured it."""
        federation = self._federation
        if federation.measuring.by == SERVER:
            return federation.measuring.here(federation.global_model())
        if not verdict.candidates:
            return Figures()
        tally = verdict.candidates[verdict.chosen]
        return Figures(CLIENTS, tally.images, tally.accuracy)

    def _note(self, verdict: Verdict, answers: Answers[Scores], seconds: float) -> None:
        """Write the verdict into the log, the metrics and the summary."""
        federation = self._federation
        names = federation.participants.names()
        for client, reason in answers.failures.items():
            log.warning("judgement: %s did not judge: %s", names[client], reason)
        log.info("%s", verdict.sentence)
        by_client = [
            {
                "client": client,
                "name": names[client],
                "images": scores.images,
                "before": scores.accuracy(0),
                "stage": scores.accuracy(len(STEPS) - 1),
                "kept": scores.accuracy(verdict.chosen),
            }
            for client, scores in answers.valid.items()
        ]
        federation.metrics.append(
            "judgement",
            **as_json(verdict),
            candidates=[
                {
                    "step": step,
                    "accuracy": tally.accuracy,
                    "gain": tally.gain,
                    "standard_error": tally.standard_error,
                }
                for step, tally in zip(STEPS, verdict.candidates, strict=False)
            ],
            clients=by_client,
            failures=[{"client": c, "reason": r} for c, r in answers.failures.items()],
            seconds=seconds,
        )
        judged = federation.ledger.judged = federation.ledger.judged or {}
        add_to_summary(judged, verdict)
        judged.setdefault("clients", {})[verdict.stage] = by_client


def add_to_summary(judged: dict[str, Any], verdict: Verdict) -> None:
    """Add a verdict to what the summary says under ``judged``.

    A stage's accuracy there is that of its own result, λ = 1, kept or not.
    """
    judged.setdefault("by", "nobody")
    judged.setdefault("images", 0)
    if verdict.candidates:
        judged.update(by="clients", images=verdict.images)
        judged.setdefault(verdict.before, verdict.candidates[0].accuracy)
        judged[verdict.stage] = verdict.candidates[-1].accuracy
    if verdict.chosen:
        judged.update(selected=verdict.stage, step=verdict.step)
    else:
        judged.setdefault("selected", verdict.before)
        judged.setdefault("step", 1.0)
    judged.setdefault("verdicts", []).append(as_json(verdict))


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for the metrics and the summary; what nobody measured is None."""
    best = verdict.reported
    return {
        "stage": verdict.stage,
        "before": verdict.before,
        "step": verdict.step,
        "images": verdict.images,
        "gain": None if best is None else best.gain,
        "standard_error": None if best is None else best.standard_error,
        "sentence": verdict.sentence,
    }
