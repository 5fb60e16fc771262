"""What the server remembers of every client: a control, and the weighted mean of all controls.

SCAFFOLD's c_i and FedDyn's h_i are both of this kind. The server can compute them from y_i, which
it receives anyway, so they are kept there: a client uploads what it uploads under FedAvg, downloads
one state more, and has nothing to lose when it is restarted.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from flwr.serverapp import Grid
from torch import nn

from foundation.models import Classifier, State
from foundation.models.client_store import ClientStore

from .client import ClientAlgorithm, gradients
from .server import FederatedStrategy, LocalUpdate, Updates

CORRECTION = "correction"


class WithControls(FederatedStrategy):
    """Server half with a control per client. All start at zero, of trainable parameters only.

    After every round the mean is Σ p_i·c_i over all clients, sampled or not.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.client_controls = ClientStore(self.directory / "controls")
        #: c = Σ p_i·c_i.
        self.control: State = {}
        self._total_examples = 0

    def _zero(self) -> State:
        return {name: torch.zeros_like(self._global[name]) for name in self.layout.parameters}

    def client_control(self, client: int) -> State:
        """Return c_i; zero for a client that never took part."""
        if client in self.client_controls:
            return self.client_controls.read(client)
        return self._zero()

    def begin(self, server_round: int, state: State, grid: Grid) -> None:
        super().begin(server_round, state, grid)
        # When a client joined, c = Σ p_i c_i is set anew. Later than before a message with c is
        # built would be wrong: SCAFFOLD's c_i⁺ must subtract the c that was sent.
        examples = {
            client: self.participants[client].num_examples for client in self.participants.clients
        }
        total = sum(examples.values())
        if total == self._total_examples:
            return
        self._total_examples = total
        self.control = self._zero()
        for client in self.client_controls.versions:
            if client not in examples:  # not seen since the run was resumed
                continue
            own = self.client_controls.read(client)
            for name, value in self.control.items():
                value.add_(own[name], alpha=examples[client] / total)

    def move_controls(
        self,
        server_round: int,
        updates: Updates,
        moved: Callable[[LocalUpdate, State], State],
    ) -> None:
        """Replace the controls of a round's clients, and their mean with them.

        ``moved`` returns c_i⁺ from a client's update and c_i.
        """
        control = dict(self.control)
        for update in updates:
            own = self.client_control(update.client)
            after = moved(update, own)
            share = update.num_examples / self._total_examples
            for name, value in after.items():
                control[name] = control[name] + share * (value - own[name])
            self.client_controls.write(update.client, server_round, after)
        self.control = control

    def stores(self) -> dict[str, ClientStore]:
        return {**super().stores(), "controls": self.client_controls}

    def memory(self) -> State:
        """Return c, and the number of samples its weights refer to."""
        return {**self.control, "total-examples": torch.tensor(self._total_examples)}

    def restore(self, memory: State) -> None:
        memory = dict(memory)
        self._total_examples = int(memory.pop("total-examples"))
        self.control = memory


class CorrectedClient(ClientAlgorithm, capturable=True):
    """Client half: add what the server sent to every gradient, before the optimizer step."""

    def begin_round(self, model: Classifier, received: Mapping[str, State]) -> None:
        correction = received[CORRECTION]
        self._correction = [
            correction[name].to(parameter.device, parameter.dtype)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]

    @torch.no_grad()
    def adjust_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        torch._foreach_add_(gradients(parameters), self._correction)
