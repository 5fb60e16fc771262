"""Local-only baseline: every client trains alone; its accuracy is the mean over clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models import State

from .algorithm import Algorithm
from .client import ClientAlgorithm
from .server import FederatedStrategy, LocalUpdate


class LocalOnly(FederatedStrategy):
    """Server half: send every client its own model back; the global model stays as it was."""

    keeps_local_models = True
    has_global_model = False

    def model_for(self, client: int) -> State:
        """Return the client's own last model."""
        if client in self.local_models:
            return self.local_models.read(client)
        return super().model_for(client)

    def aggregate(
        self, server_round: int, global_state: State, updates: Sequence[LocalUpdate]
    ) -> State:
        """Combine nothing."""
        return dict(global_state)

    def evaluate(
        self, state: State, evaluate: Callable[[State], dict[str, float]]
    ) -> dict[str, float]:
        """Return the mean over the clients' models."""
        clients = list(self.local_models.versions)
        if not clients:
            return evaluate(state)
        measured = [evaluate(self.local_models.read(client)) for client in clients]
        return {name: sum(m[name] for m in measured) / len(measured) for name in measured[0]}


class LocalOnlyClient(ClientAlgorithm):
    """Client half: plain local training."""


algorithm = Algorithm("local", LocalOnly, LocalOnlyClient)
