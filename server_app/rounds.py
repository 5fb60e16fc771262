"""A federated round: clients train, updates are aggregated, the result is measured."""

import math
import time
from dataclasses import replace

from foundation import ExpectedError
from foundation.errors import log
from foundation.events.family import RoundDone
from foundation.events.log import Record
from foundation.messages.participants import Gathered
from foundation.models import State, first_non_finite
from foundation.settings.configuration import RunConfiguration
from strategies import FederatedStrategy
from strategies.server import LocalUpdate

from .clients import Clients
from .global_model import GlobalModel
from .measuring import Figures, Measuring

_ADVICE = (
    "A client sent absurd weights, or learning-rate is too high. Continue from the round before "
    "with resume-from, and e.g. clip-update-norm=2"
)

# Averages jump by some points from round to round; features that are lost cost more.
_LOST = 0.9


class DivergedModel(ExpectedError, RuntimeError):
    """The global model of a round says nothing any more; the round before is kept."""


class Rounds:
    """Carries out federated rounds, also those of a competition."""

    def __init__(
        self,
        configuration: RunConfiguration,
        strategy: FederatedStrategy,
        clients: Clients,
        model: GlobalModel,
        measuring: Measuring,
        record: Record,
    ) -> None:
        self._configuration = configuration
        self.strategy = strategy
        self._clients = clients
        self._model = model
        self._measuring = measuring
        self._record = record
        self._began: float | None = None

    def carry_out(self, server_round: int, phase: str) -> None:
        """Carry out a round of the phase ``"federated"`` or ``"competition"``, which counts on."""
        started = time.perf_counter()
        updates = self._trained(server_round)
        self._model.state, outcome = self._aggregated(server_round, updates)
        figures = self._measured(server_round)
        self._warn_of_lost_features(server_round, figures.accuracy)
        self._record(
            replace(
                outcome,
                phase=phase,
                accuracy=figures.accuracy,
                loss=figures.loss,
                measured=figures.measured,
                seconds=time.perf_counter() - started,
            )
        )

    def _trained(self, server_round: int) -> Gathered[LocalUpdate]:
        if (before := self.strategy.outcome) is not None:
            # The round before is kept: it had enough replies.
            self._clients.stop_if_hopeless(failure.reason for failure in before.failures)
        return self._clients.train(self.strategy, server_round)

    def _aggregated(
        self, server_round: int, updates: Gathered[LocalUpdate]
    ) -> tuple[State, RoundDone]:
        combined = self.strategy.finish(server_round, updates)
        if broken := first_non_finite(combined):
            # Every update was finite: their combination is beyond what a float32 can hold.
            raise DivergedModel(
                f"round {server_round}: the combined model cannot be used: {broken!r} holds NaN or "
                f"infinite values. {_ADVICE}"
            )
        assert self.strategy.outcome is not None
        return combined, self.strategy.outcome

    def _measured(self, server_round: int) -> Figures:
        """Measure what the round's algorithm produced, if it is that round's turn."""
        if not self._measuring.is_due(server_round, not self.strategy.has_global_model):
            return Figures()
        found: list[Figures] = []

        def measure(state: State) -> dict[str, float]:
            figures = self._measuring(state)[0]
            if figures.accuracy is None or figures.loss is None:
                return {}
            found.append(figures)
            return {"accuracy": figures.accuracy, "loss": figures.loss}

        values = self.strategy.evaluate(self._model.state, measure)
        if not values:
            return Figures()
        if not math.isfinite(values["loss"]):
            raise DivergedModel(
                f"round {server_round}: the global model's loss is {values['loss']}. {_ADVICE}"
            )
        return Figures(found[0].by, found[0].images, values["accuracy"], values["loss"])

    def note_start(self) -> None:
        """Measure the model that the first round starts from, to see whether steps spoil it."""
        if self._measuring.measures_on_the_way:
            self._began = self._measuring.here(self._model.state).accuracy

    def _warn_of_lost_features(self, server_round: int, accuracy: float | None) -> None:
        began, step = self._began, self._configuration.encoder_factor
        if began is not None and accuracy is not None and accuracy < _LOST * began:
            log.warning(
                f"round {server_round}: the accuracy is {100 * accuracy:.1f} %, and was "
                f"{100 * began:.1f} % before the rounds: their steps may have destroyed the "
                f"trained features. Lower learning-rate, or encoder-step (now {step:g})"
            )
