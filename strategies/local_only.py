"""Local-only baseline: every client trains alone; its accuracy is the mean over clients."""

from collections.abc import Callable

from foundation.models import State

from .algorithm import Algorithm
from .server import FederatedStrategy, Updates


class LocalOnly(FederatedStrategy):
    """Server half: send every client its own model back; the global model stays as it was."""

    keeps_local_models = True
    has_global_model = False

    def model_for(self, client: int) -> State:
        if client in self.local_models:
            return self.local_models.read(client)
        return super().model_for(client)

    def aggregate(self, server_round: int, global_state: State, updates: Updates) -> State:
        return dict(global_state)

    def evaluate(
        self, state: State, evaluate: Callable[[State], dict[str, float]]
    ) -> dict[str, float]:
        """Return the mean over the clients' models, of those that were measured."""
        clients = list(self.local_models.versions)
        if not clients:
            return evaluate(state)
        found = [evaluate(self.local_models.read(client)) for client in clients]
        measured = [figures for figures in found if figures]
        names = measured[0] if measured else {}
        return {name: sum(m[name] for m in measured) / len(measured) for name in names}


algorithm = Algorithm("local", LocalOnly)
