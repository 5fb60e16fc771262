"""The model that a run keeps: a stage's result replaces it only where the clients judge so.

A stage's result is *offered* when it is made, and measured and *settled* in a step of its own:
killed in between, a run goes on with the judgement. Both the offered model and the one kept so far
are in the checkpoint until then. The rule is in :mod:`server_app.judgement`.
"""

from __future__ import annotations

import time
from dataclasses import replace

from foundation.events.family import (
    Candidate,
    ClientJudgement,
    Judged,
    ResultMeasured,
    failures_of,
)
from foundation.models import interpolated
from questions.ask import Answers
from questions.evaluation import Candidates, EvaluationRequest, Scores

from .federation import Federation
from .judgement import STEPS, WHOLE, Verdict, decide, tallies
from .measuring import CLIENTS, SERVER, Figures, figures_of, scored


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

    def offer(self, stage: str, needs_proof: bool = True, whole: bool = False) -> None:
        """Note that the global model is now a stage's result, for :meth:`settle` to judge.

        Where there are judges they measure it in the same message: each costs a site a process.
        """
        federation, ledger = self._federation, self._federation.ledger
        if self._judges:
            federation.measure_statistics(stage)
            ledger.offered, ledger.needs_proof, ledger.whole = stage, needs_proof, whole
        else:
            ledger.kept = stage
            federation.close_stage(stage)

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
        steps = WHOLE if ledger.whole else STEPS
        with ledger.timed("judgement"):
            answers = federation.ask(
                EvaluationRequest(Candidates(before, after, steps)),
                federation.progress(f"judgement of the {stage} model", "clients"),
            )
            measured = federation.measuring.by_the_way(
                federation.global_model(), answers, len(steps) - 1
            )
            federation.note_figures(stage, measured)
            participants = federation.participants
            verdict = decide(
                tallies(Scores.sum(answers.parts)),
                before=ledger.kept,
                stage=stage,
                clients=len(answers.valid),
                held_out=sum(sum(participants[c].held_out) for c in participants.clients),
                needs_proof=ledger.needs_proof,
                steps=steps,
            )
            kept = interpolated(before, after, verdict.step)
            federation.set_global(kept)
            federation.state.kept = kept
            figures = self._figures_of(verdict)
            there = figures_of(answers, participants.names(), verdict.chosen)
            who = replace(figures.measured, also_chose=figures.by == CLIENTS)
            federation.record(ResultMeasured("selected", figures.accuracy, who))
            if (event := scored("selected", [figures, there])) is not None:
                federation.record(event)
        federation.record(self._judged(verdict, answers, time.perf_counter() - started))
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

    def _judged(self, verdict: Verdict, answers: Answers[Scores], seconds: float) -> Judged:
        names, best = self._federation.participants.names(), verdict.reported
        return Judged(
            verdict.stage,
            verdict.before,
            verdict.step,
            verdict.images,
            None if best is None else best.gain,
            None if best is None else best.standard_error,
            verdict.sentence,
            [
                Candidate(step, tally.accuracy, tally.gain, tally.standard_error)
                for step, tally in zip(verdict.steps, verdict.candidates, strict=False)
            ],
            [
                ClientJudgement(
                    client,
                    names[client],
                    scores.images,
                    before=scores.accuracy(0),
                    stage=scores.accuracy(len(verdict.steps) - 1),
                    kept=scores.accuracy(verdict.chosen),
                )
                for client, scores in answers.valid.items()
            ],
            failures_of(answers.failures, names),
            seconds,
        )
