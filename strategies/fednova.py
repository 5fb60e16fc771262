"""FedNova (Wang et al. 2020): normalize every client's update by how far its optimizer moves.

    d_i = (x - y_i)/(η‖a_i‖₁) ;   τ_eff = Σ p_i ‖a_i‖₁ ;   x⁺ = x - η·τ_eff·Σ p_i d_i

which is x⁺ = x + Σ w_i (y_i - x) with w_i = p_i·τ_eff/‖a_i‖₁. Equal steps give w_i = p_i: FedAvg.
"""

from collections.abc import Sequence

from foundation.errors import log
from foundation.models import State
from foundation.models.aggregation import combine, sample_weights

from .algorithm import Algorithm
from .server import FederatedStrategy, Updates

_WORRYING_WEIGHT = 2.0


def effective_weights(weights: Sequence[float], normalizers: Sequence[float]) -> list[float]:
    """Return w_i = p_i·τ_eff/‖a_i‖₁ (Wang et al. 2020, equation 8 with momentum's ‖a‖₁).

    p_i sum to 1. The sum of w_i is at least 1, and exactly 1 if all normalizers ‖a_i‖₁ are equal;
    under quantity skew it reaches 2 to 7.
    """
    effective_steps = sum(p * a for p, a in zip(weights, normalizers, strict=True))
    return [p * effective_steps / a for p, a in zip(weights, normalizers, strict=True)]


class FedNova(FederatedStrategy):
    """Server half: the normalized average of the parameters; buffers are averaged."""

    def aggregate(self, server_round: int, global_state: State, updates: Updates) -> State:
        """Return the normalized average; ``server-learning-rate`` tames a large weight sum."""
        weights = sample_weights([update.num_examples for update in updates])
        effective = effective_weights(weights, [self.normalizer_of(update) for update in updates])
        total = sum(effective)
        self._notes["effective-weight"] = total
        if total > _WORRYING_WEIGHT:
            log.warning(
                "round %d: FedNova's weights sum to %.2f, the clients' numbers of steps differ "
                "much; server-learning-rate = %.2g would bring the step back to that of FedAvg",
                server_round,
                total,
                1.0 / total,
            )
        return combine(
            global_state,
            (update.load() for update in updates),
            self.layout,
            weights=weights,
            parameter_weights=effective,
            server_learning_rate=self.configuration.server_learning_rate,
        )


algorithm = Algorithm("fednova", FedNova)
