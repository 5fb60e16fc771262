"""Which model training ends with: the last round's, the best round's, or an average's.

With ``patience``, the clients hold every round's model against the best one so far, on images that
they hold out; training ends after so many rounds without a gain, and the best round is its result.
With ``global-average``, the average of the last models is offered to the same judges beside it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import NormalDist

from foundation import counted
from foundation.events.family import Candidate, Judged, RoundJudged, failures_of
from foundation.models import State, StateLayout, write_model
from foundation.models.running_average import RunningAverage
from questions.ask import Answers
from questions.evaluation import Candidates, EvaluationRequest, Scores

from .acceptance import Acceptance
from .checkpoints import ENDED
from .federation import Federation
from .judgement import Tally, tallies
from .kept_model import LAST_FOLDER, described

_BEST = "best."
_AVERAGE = "average."


@dataclass
class BestRound:
    """The best round so far.

    Parameters
    ----------
    round, rounds : int
        Which one, and how many there were.
    waited : int
        Rounds since then.
    """

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

    Parameters
    ----------
    federation : Federation
        Before its first round, or resumed. What is watched is part of its checkpoints.
    """

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        configuration = federation.configuration
        watched = federation.state.watched
        self._patience = configuration.patience
        self._best = BestRound(**federation.state.best_round)
        self._best_state = _part(watched, _BEST)
        #: The last judgement: of the last round's model against the best one.
        self._last: tuple[Tally, Answers[Scores]] | None = None
        self._average: RunningAverage | None = None
        if configuration.global_average != "last":
            layout = StateLayout.of(federation.global_model())
            self._average = RunningAverage(
                configuration.global_average, configuration.global_average_rounds, layout
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
        return waited_enough or self._federation.done(ENDED)

    def after_round(self, server_round: int) -> None:
        """Look at the model of a round that is not committed yet."""
        state = self._federation.state
        if self._average is not None:
            self._average.add(state.global_state)
        if self._patience:
            self._hold_against_best(server_round)
        average = {} if self._average is None else self._average.memory()
        state.watched = {
            **{_BEST + name: value for name, value in self._best_state.items()},
            **{_AVERAGE + name: value for name, value in average.items()},
        }
        state.best_round = asdict(self._best)

    def _hold_against_best(self, server_round: int) -> None:
        federation, best = self._federation, self._best
        current = federation.state.global_state
        best.rounds += 1
        tally = self._judged(current) if self._best_state else None
        if tally is None or tally.bound > 0:
            best.round, best.waited, self._best_state = server_round, 0, current
        else:
            best.waited += 1
        if tally is not None:
            federation.record(
                RoundJudged(
                    server_round,
                    best.round,
                    best.waited,
                    tally.images,
                    tally.accuracy,
                    tally.gain,
                    tally.standard_error,
                )
            )

    def _judged(self, state: State) -> Tally | None:
        """Return what the clients say of a model against the best; None if nobody says anything."""
        request = EvaluationRequest(Candidates(self._best_state, state, (0.0, 1.0)))
        answers = self._federation.ask(request)
        found = tallies(Scores.sum(answers.parts))
        self._last = (found[1], answers) if found else None
        return found[1] if found else None

    def settle(self) -> None:
        """Take the result of training as the global model; killed in between, a run repeats it."""
        federation = self._federation
        if not self.watches:
            return
        if not federation.done(ENDED):
            write_model(
                federation.directory / LAST_FOLDER,
                described(federation),
                federation.state.global_state,
            )
            if self._best.waited:
                self._take_best()
            acceptance = Acceptance(federation)
            if self._average is not None:
                federation.set_global(self._average.of(federation.state.global_state))
                federation.measure_statistics("averaged", always=True)
                acceptance.offer("averaged")
            federation.state.watched, federation.state.best_round = {}, {}
            federation.commit(ENDED)
        Acceptance(federation).settle()

    def _take_best(self) -> None:
        federation, started = self._federation, time.perf_counter()
        if self._last is None:  # resumed behind the last round
            self._judged(federation.state.global_state)
        federation.set_global(self._best_state)
        federation.close_stage("best_round")
        if self._last is not None:
            federation.record(self._verdict(*self._last, time.perf_counter() - started))
        else:
            federation.ledger.kept = "best_round"

    def _verdict(self, last: Tally, answers: Answers[Scores], seconds: float) -> Judged:
        best, error = self._best, last.standard_error
        sentence = (
            f"kept: round {best.round} of {best.rounds}; the last is "
            f"{100 * last.gain:+.1f} ± {100 * last.half_width:.1f} points from it on "
            f"{last.images} held-out images of {counted(len(answers.valid), 'client')}. By chance "
            f"alone, the best of {best.rounds} equal rounds would look "
            f"{100 * best.chance(error):.1f} points better"
        )
        before = last.accuracy
        after = before - last.gain
        return Judged(
            "best_round",
            "federated",
            1.0,
            last.images,
            -last.gain,
            error,
            sentence,
            [Candidate(0.0, before, 0.0, 0.0), Candidate(1.0, after, -last.gain, error)],
            (),
            failures_of(answers.failures, self._federation.participants.names()),
            seconds,
        )


def _part(watched: State, prefix: str) -> State:
    return {n.removeprefix(prefix): value for n, value in watched.items() if n.startswith(prefix)}
