"""SCAFFOLD (Karimireddy et al. 2020, Algorithm 1, option II), exact with momentum.

    local step:     gradient ← g_i(y) + c - c_i          inside the gradient, before the optimizer
    after τ steps:  c_i⁺ = c_i - c + (x - y_i)/(η‖a‖₁)
    server:         x⁺ = x + η_g Σ_S p_i (y_i - x) ;   c⁺ = c + Σ_S p_i⁽ᴺ⁾ (c_i⁺ - c_i)

Dividing by η‖a‖₁ instead of ητ is what keeps it right when the local optimizer has momentum
(see :func:`foundation.models.aggregation.normalizer`).
"""

from foundation.models import State

from .algorithm import Algorithm
from .controls import CORRECTION, CorrectedClient, WithControls
from .server import LocalUpdate, Updates


def updated_control(
    client_control: State, control: State, start: State, end: State, scale: float
) -> State:
    """Return c_i⁺ = c_i - c + (x - y_i)/(η‖a‖₁) (Karimireddy et al. 2020, equation 4).

    c_i and c hold trainable parameters only, x and y_i may hold buffers too; ``scale`` is η‖a‖₁.
    """
    return {
        name: client_control[name] - control[name] + (start[name] - end[name]) / scale
        for name in client_control
    }


class Scaffold(WithControls):
    """Server half: average the models, and move the controls."""

    def extra_records(self, client: int) -> dict[str, State]:
        """Send c - c_i."""
        own = self.client_control(client)
        return {CORRECTION: {name: self.control[name] - own[name] for name in own}}

    def aggregate(self, server_round: int, global_state: State, updates: Updates) -> State:
        def moved(update: LocalUpdate, own: State) -> State:
            scale = self.learning_rate * self.normalizer_of(update)
            return updated_control(own, self.control, global_state, update.load(), scale)

        averaged = super().aggregate(server_round, global_state, updates)
        self.move_controls(server_round, updates, moved)
        return averaged


algorithm = Algorithm("scaffold", Scaffold, CorrectedClient)
