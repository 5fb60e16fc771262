"""Which model training ends with: the last round's, the best round's, or an average's.

With ``patience``, the clients hold every round's model against the best one so far, on images that
they hold out; training ends after so many rounds without a gain, and the best round is its result.
With ``global-average``, the average of the last models is offered to the same judges beside it.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist

from foundation import counted
from foundation.events.family import Candidate, Judged, ResultMeasured, RoundJudged, failures_of
from foundation.models import State
from foundation.models.aggregation import RunningAverage
from foundation.scores import METRICS
from questions.ask import Answers
from questions.evaluation import EvaluationRequest, Scores

from .acceptance import Acceptance, StageParts
from .checkpoints import ENDED
from .judgement import WHOLE, Tally, tallies
from .measuring import CLIENTS

#: The folder of the last round's model, where it may not be the run's.
LAST_FOLDER = "model-last"

_BEST = "best."
_AVERAGE = "average."


@dataclass
class BestRound:
    """The best ``round`` of so many ``rounds``; ``waited`` of them have passed since."""

    round: int = 0
    rounds: int = 0
    waited: int = 0

    def chance(self, standard_error: float) -> float:
        """Return how much better the best of as many equal models looks on average (Blom 1958).

        Models of following rounds are alike, so that the true figure is smaller.
        """
        count = max(self.rounds, 1)
        return standard_error * NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


class TrainingResult:
    """Watches the rounds of a run, and takes its result when they are over.

    What is watched is part of the journal's checkpoints. ``last_folder`` takes the last round's
    model.
    """

    def __init__(self, parts: StageParts, last_folder: Path) -> None:
        self._last_folder = last_folder
        self._parts = parts
        self._model, self._journal = parts.model, parts.journal
        self._clients, self._measuring = parts.clients, parts.measuring
        configuration = parts.configuration
        watched = self._journal.state.watched
        self._patience = configuration.patience
        self._metric = configuration.acceptance_metric
        self._measures_statistics = configuration.batch_norm == "measured"
        self._best = BestRound(**self._journal.state.best_round)
        self._best_state = _part(watched, _BEST)
        #: The last judgement: of the last round's model against the best one.
        self._last: tuple[Tally, Answers[Scores]] | None = None
        self._average: RunningAverage | None = None
        if configuration.global_average != "last":
            self._average = RunningAverage(
                configuration.global_average,
                configuration.global_average_rounds,
                parts.model.layout,
            )
            if memory := _part(watched, _AVERAGE):
                self._average.restore(memory)

    @property
    def watches(self) -> bool:
        """Whether the last round's model may not be the result of training."""
        return self._patience > 0 or self._average is not None

    @property
    def ended(self) -> bool:
        """Whether no more rounds are to come, however few there were."""
        waited_enough = self._best.waited >= self._patience > 0
        return waited_enough or self._journal.done(ENDED)

    def after_round(self, server_round: int) -> None:
        """Look at the model of a round that is not committed yet."""
        state = self._journal.state
        if self._average is not None:
            self._average.add(self._model.state)
        if self._patience:
            self._hold_against_best(server_round)
        average = {} if self._average is None else self._average.memory()
        state.watched = {
            **{_BEST + name: value for name, value in self._best_state.items()},
            **{_AVERAGE + name: value for name, value in average.items()},
        }
        state.best_round = asdict(self._best)

    def _hold_against_best(self, server_round: int) -> None:
        best, current = self._best, self._model.state
        best.rounds += 1
        tally = self._judged(current) if self._best_state else None
        if tally is None or tally.bound > 0:
            best.round, best.waited, self._best_state = server_round, 0, current
        else:
            best.waited += 1
        if tally is not None:
            self._journal.record(
                RoundJudged(
                    server_round,
                    best.round,
                    best.waited,
                    tally.images,
                    tally.accuracy,
                    tally.gain,
                    tally.standard_error,
                    self._metric,
                )
            )

    def _judged(self, state: State) -> Tally | None:
        """Return what the clients say of a model against the best; None if nobody says anything."""
        losses = self._metric == "log-loss"
        answers = self._clients.ask(EvaluationRequest(self._best_state, state, WHOLE, losses))
        found = tallies(Scores.sum(answers.parts), self._metric)
        self._last = (found[1], answers) if found else None
        return found[1] if found else None

    def settle(self) -> None:
        """Take the result of training as the global model; killed in between, a run repeats it."""
        if not self.watches:
            return
        if not self._journal.done(ENDED):
            self._model.write(self._last_folder, self._clients.description)
            if self._best.waited:
                self._take_best()
            acceptance = Acceptance(self._parts)
            if self._average is not None:
                self._model.state = self._average.of(self._model.state)
                if not self._measures_statistics:  # which the offer does
                    self._measuring.take_statistics("averaged", always=True)
                acceptance.offer("averaged")
            state = self._journal.state
            state.watched, state.best_round = {}, {}
            self._parts.commit(ENDED)
        Acceptance(self._parts).settle()

    def _take_best(self) -> None:
        """Keep the best round unless the last is as good: a gain too small to be the best's."""
        started = time.perf_counter()
        if self._last is None:  # resumed behind the last round
            self._judged(self._model.state)
        if self._last is None or self._last[0].gain < 0:
            self._model.state = self._best_state
            self._measuring.close_stage("best_round")
            figures = self._measuring(self._model.state)[0]
            if figures.by == CLIENTS:
                who = replace(figures.measured, also_chose=True)
                self._journal.record(ResultMeasured("best_round", figures.accuracy, who))
        if self._last is not None:
            self._journal.record(self._verdict(*self._last, time.perf_counter() - started))
        else:
            self._journal.ledger.kept = "best_round"

    def _verdict(self, last: Tally, answers: Answers[Scores], seconds: float) -> Judged:
        best, error, metric = self._best, last.standard_error, METRICS[self._metric]
        kept = best.round if last.gain < 0 else best.round + best.waited
        sentence = (
            f"kept: round {kept} of {best.rounds}; the last is "
            f"{metric.signed(last.gain, error)} from round {best.round}, the best before, on "
            f"{last.images} held-out images of {counted(len(answers.valid), 'client')}. By chance "
            f"alone, the best of {best.rounds} equal rounds would look "
            f"{metric.scale * best.chance(error):.{metric.decimals}f} {metric.unit} better"
        )
        before = last.accuracy
        scores = Scores.sum(answers.parts)
        after = before if scores is None else scores.accuracy(0) or 0.0
        return Judged(
            "best_round",
            "federated",
            1.0 if last.gain < 0 else 0.0,
            last.images,
            -last.gain,
            error,
            sentence,
            [Candidate(0.0, before, 0.0, 0.0), Candidate(1.0, after, -last.gain, error)],
            (),
            failures_of(answers.failures, self._clients.participants.names()),
            seconds,
            self._metric,
        )


def _part(watched: State, prefix: str) -> State:
    return {n.removeprefix(prefix): value for n, value in watched.items() if n.startswith(prefix)}
