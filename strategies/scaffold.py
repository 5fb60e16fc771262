"""SCAFFOLD (Karimireddy et al. 2020, Algorithm 1, option II), exact with momentum.

    local step:     gradient ← g_i(y) + c - c_i          inside the gradient, before the optimizer
    after τ steps:  c_i⁺ = c_i - c + (x - y_i)/(η‖a‖₁)
    server:         x⁺ = x + η_g Σ_S p_i (y_i - x) ;   c⁺ = c + Σ_S p_i⁽ᴺ⁾ (c_i⁺ - c_i)

Dividing by η‖a‖₁ instead of ητ is what keeps it right when the local optimizer has momentum
(see :mod:`strategies.normalizer`). The server can compute c_i⁺ itself from y_i, which it receives
anyway, so the controls are kept there: a client uploads what it uploads under FedAvg, downloads
one correction c - c_i, and has nothing to lose when it is restarted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from flwr.serverapp import Grid
from torch import Tensor, nn

from foundation.messages.participants import Participants
from foundation.models import Classifier, State, StateLayout
from foundation.models.client_store import ClientStore
from foundation.settings.configuration import RunConfiguration

from .algorithm import Algorithm
from .client import ClientAlgorithm, gradients
from .server import FederatedStrategy, LocalUpdate

CORRECTION = "correction"


def updated_control(
    client_control: State, control: State, start: State, end: State, scale: float
) -> State:
    """Return c_i⁺ = c_i - c + (x - y_i)/(η‖a‖₁) (Karimireddy et al. 2020, equation 4).

    Parameters
    ----------
    client_control, control : State
        c_i and c; trainable parameters only.
    start, end : State
        x and y_i; may hold buffers too.
    scale : float
        η‖a‖₁.
    """
    return {
        name: client_control[name] - control[name] + (start[name] - end[name]) / scale
        for name in client_control
    }


class Scaffold(FederatedStrategy):
    """Server half: average the models, and keep the controls. All controls start at zero."""

    def __init__(
        self,
        configuration: RunConfiguration,
        layout: StateLayout,
        directory: Path,
        participants: Participants,
    ) -> None:
        super().__init__(configuration, layout, directory, participants)
        self.client_controls = ClientStore(self.directory / "controls")
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
        """Do as FedAvg does, then bring c up to date with who takes part."""
        super().begin(server_round, state, grid)
        self._follow_membership()

    def _follow_membership(self) -> None:
        """Set c = Σ p_i c_i anew when a client joined, before a message with c is built.

        Later would be wrong: c_i⁺ must subtract the c that was sent.
        """
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

    def extra_records(self, client: int) -> dict[str, State]:
        """Send c - c_i."""
        own = self.client_control(client)
        return {CORRECTION: {name: self.control[name] - own[name] for name in own}}

    def aggregate(
        self, server_round: int, global_state: State, updates: Sequence[LocalUpdate]
    ) -> State:
        """Average the models and move the controls."""
        averaged = super().aggregate(server_round, global_state, updates)
        total = self._total_examples
        control = dict(self.control)
        for update in updates:
            own = self.client_control(update.client)
            scale = self.learning_rate * self.normalizer_of(update)
            moved = updated_control(own, self.control, global_state, update.load(), scale)
            for name, value in moved.items():
                share = update.num_examples / total
                control[name] = control[name] + share * (value - own[name])
            self.client_controls.write(update.client, server_round, moved)
        self.control = control
        return averaged

    def stores(self) -> dict[str, ClientStore]:
        """Return the local models and the clients' controls."""
        return {**super().stores(), "controls": self.client_controls}

    def memory(self) -> State:
        """Return c, and the number of samples its weights refer to."""
        return {**self.control, "total-examples": torch.tensor(self._total_examples)}

    def restore(self, memory: State) -> None:
        """Take back c."""
        memory = dict(memory)
        self._total_examples = int(memory.pop("total-examples"))
        self.control = memory


class ScaffoldClient(ClientAlgorithm):
    """Client half: add c - c_i to every gradient."""

    def __init__(self, configuration: RunConfiguration) -> None:
        super().__init__(configuration)
        self._correction: list[Tensor] = []

    def begin_round(self, model: Classifier, received: Mapping[str, State]) -> None:
        """Move the correction to the training device."""
        correction = received[CORRECTION]
        self._correction = [
            correction[name].to(parameter.device, parameter.dtype)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]

    @torch.no_grad()
    def adjust_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add the correction."""
        torch._foreach_add_(gradients(parameters), self._correction)


algorithm = Algorithm("scaffold", Scaffold, ScaffoldClient)
