"""FedDyn (Acar et al. 2021): every client's objective is bent so that all agree at the optimum.

    local loss:  f_i(y) - ⟨h_i, y⟩ + (α/2)‖y - x‖²
    server:      h_i⁺ = h_i - α(y_i - x) ;   h = Σ p_i⁽ᴺ⁾ h_i ;   x⁺ = Σ_S p_i y_i - h⁺/α

All h_i start at zero. The paper weighs all clients alike; with p_i in samples, the fixed point is
the minimum of Σ p_i f_i: where no client moves any more, h_i is the gradient of f_i and h = 0. That
holds for any number of local steps, momentum and weight decay. α balances two speeds: h_i follows
the gradient in about 1/(1 - (1 - ηα)^τ) rounds, and the local models stay nearer to x the larger α.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from foundation.models import Classifier, State
from foundation.settings.algorithms import FedDynSettings
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from foundation.settings.federated_training import LOSSES_OF_THE_LOOP

from .algorithm import Algorithm, label_loss
from .controls import CORRECTION, CorrectedClient, WithControls
from .fedprox import Pull
from .server import LocalUpdate, Updates


class FedDyn(WithControls):
    """Server half: average the models, move every h_i, and step by -h/α."""

    def extra_records(self, client: int) -> dict[str, State]:
        """Send -h_i, which the client adds to its gradients."""
        return {CORRECTION: {name: -value for name, value in self.client_control(client).items()}}

    def aggregate(self, server_round: int, global_state: State, updates: Updates) -> State:
        """Return Σ p_i y_i - h⁺/α; buffers are averaged."""
        alpha = self.configuration.section(FedDynSettings).alpha

        def moved(update: LocalUpdate, own: State) -> State:
            end = update.load()
            return {
                name: value - alpha * (end[name] - global_state[name])
                for name, value in own.items()
            }

        averaged = super().aggregate(server_round, global_state, updates)
        self.move_controls(server_round, updates, moved)
        stepped = {name: averaged[name] - value / alpha for name, value in self.control.items()}
        return {**averaged, **stepped}


class FedDynClient(CorrectedClient, capturable=True):
    """Client half: ``gradient += α(y - x) - h_i``."""

    def begin_round(self, model: Classifier, received: Mapping[str, State]) -> None:
        super().begin_round(model, received)
        self._pull = Pull(model, self.configuration.section(FedDynSettings).alpha)

    @torch.no_grad()
    def adjust_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        super().adjust_gradients(parameters)
        self._pull.add_to_gradients(parameters)


def check(configuration: RunConfiguration) -> None:
    """Refuse what has no fixed point."""
    if configuration.server_learning_rate != 1.0:
        raise ConfigurationError(
            f"server-learning-rate = {configuration.server_learning_rate:g} has no place in "
            "strategy = 'feddyn', whose step on the server is Σ p_i·y_i − h/α: leave it out, or "
            "change feddyn.alpha"
        )
    loss = configuration.local_loss
    if loss not in LOSSES_OF_THE_LOOP and label_loss(loss).loss.has_teacher:
        raise ConfigurationError(
            f"local-loss = {loss!r} learns from the round's global model, so "
            "that every round has another objective, and strategy = 'feddyn' remembers the "
            "gradients of one: take a loss without a teacher, e.g. logit-adjusted, or "
            "strategy=fedacg"
        )


algorithm = Algorithm("feddyn", FedDyn, FedDynClient, check=check)
