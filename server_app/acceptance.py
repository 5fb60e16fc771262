"""The model that a run keeps: a stage's result replaces it only where the clients judge so.

A stage's result is *offered* when it is made, and measured and *settled* in a step of its own:
killed in between, a run goes on with the judgement. Both the offered model and the one kept so far
are in the checkpoint until then. The rule is in :mod:`server_app.judgement`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from foundation.events.family import Candidate, ClientJudgement, Judged, ResultMeasured, failures_of
from foundation.models import interpolated
from foundation.settings.configuration import RunConfiguration
from questions.ask import Answers
from questions.evaluation import EvaluationRequest, Scores

from .checkpoints import Journal
from .clients import Clients
from .global_model import GlobalModel
from .judgement import STEPS, WHOLE, Verdict, tallies
from .measuring import CLIENTS, SERVER, Figures, Measuring, figures_of, scored


@dataclass(frozen=True)
class StageParts:
    """What every stage of a run works with; its clients are known.

    ``commit`` makes a step durable; ``progress`` shows the progress of a work, in its unit.
    """

    configuration: RunConfiguration
    model: GlobalModel
    clients: Clients
    measuring: Measuring
    journal: Journal
    commit: Callable[[str], None]
    progress: Callable[[str, str], Callable[[int, int], None]]


class Acceptance:
    """Keeps the best model of a run, by the clients' judgement; without judges the last stage's.

    The model is that of the last federated round when this is made, or one resumed behind it.
    """

    def __init__(self, parts: StageParts) -> None:
        self._parts = parts
        self._model, self._journal = parts.model, parts.journal
        self._clients, self._measuring = parts.clients, parts.measuring
        self._judges = parts.configuration.acceptance == "clients"
        if self._judges and self._journal.state.kept is None:
            self._journal.state.kept = self._model.state

    def offer(self, stage: str, needs_proof: bool = True, whole: bool = False) -> None:
        """Note that the global model is now a stage's result, for :meth:`settle` to judge.

        Where there are judges they measure it in the same message: each costs a site a process.
        """
        ledger = self._journal.ledger
        if self._judges:
            self._measuring.take_statistics(stage)
            ledger.offered, ledger.needs_proof, ledger.whole = stage, needs_proof, whole
        else:
            ledger.kept = stage
            self._measuring.close_stage(stage)

    def settle(self) -> None:
        """Judge what was offered, if anything was, and go on from what is kept.

        The judgement is committed under the name of the step that offered it, and ``-judged``.
        """
        journal, ledger = self._journal, self._journal.ledger
        stage, ledger.offered = ledger.offered, None
        if stage is None:
            return
        started = time.perf_counter()
        before, after = journal.state.kept, self._model.state
        assert before is not None
        steps = WHOLE if ledger.whole else STEPS
        metric = self._parts.configuration.acceptance_metric
        with ledger.timed("judgement"):
            answers = self._clients.ask(
                EvaluationRequest(before, after, steps, metric == "log-loss"),
                self._parts.progress(f"judgement of the {stage} model", "clients"),
            )
            self._measuring.note(stage, self._measuring.by_the_way(after, answers, len(steps) - 1))
            participants = self._clients.participants
            verdict = Verdict(
                tallies(Scores.sum(answers.parts), metric),
                before=ledger.kept,
                stage=stage,
                clients=len(answers.valid),
                held_out=sum(sum(participants[c].held_out) for c in participants.clients),
                needs_proof=ledger.needs_proof,
                steps=steps,
                metric=metric,
            )
            self._model.state = journal.state.kept = interpolated(before, after, verdict.step)
            figures = self._figures_of(verdict)
            there = figures_of(answers, participants.names(), verdict.chosen)
            who = replace(figures.measured, also_chose=figures.by == CLIENTS)
            journal.record(ResultMeasured("selected", figures.accuracy, who))
            if (event := scored("selected", [figures, there])) is not None:
                journal.record(event)
        journal.record(self._judged(verdict, answers, time.perf_counter() - started))
        self._parts.commit(f"{journal.state.completed[-1]}-judged")

    def _figures_of(self, verdict: Verdict) -> Figures:
        """Return the figures of what is kept; the clients have just measured it."""
        if self._measuring.by == SERVER:
            return self._measuring.here(self._model.state)
        if not verdict.candidates:
            return Figures()
        tally = verdict.candidates[verdict.chosen]
        return Figures(CLIENTS, tally.images, tally.accuracy)

    def _judged(self, verdict: Verdict, answers: Answers[Scores], seconds: float) -> Judged:
        names, best = self._clients.participants.names(), verdict.reported
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
            verdict.metric,
        )
