"""Federated averaging that goes a part of the way only, to bear clients that differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from foundation.models import State
from foundation.settings import Section, key
from strategies import Algorithm, FederatedStrategy, LocalUpdate


@dataclass(frozen=True)
class DampedSettings(Section, name="damped"):
    """The keys ``damped.…``."""

    step: float = key(
        0.5, "Step towards the clients' mean; 1 is plain averaging.", above=0.0, maximum=1.0
    )


class Damped(FederatedStrategy):
    """x + step·(mean - x)."""

    def aggregate(
        self, server_round: int, global_state: State, updates: Sequence[LocalUpdate]
    ) -> State:
        """Return the next global state."""
        mean = super().aggregate(server_round, global_state, updates)
        step = self.configuration.section(DampedSettings).step
        for name in self.layout.parameters:
            mean[name] = global_state[name] + step * (mean[name] - global_state[name])
        return mean


damped = Algorithm("damped", Damped, settings=DampedSettings)
