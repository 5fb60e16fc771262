"""How far the local optimizer moves for a constant unit gradient: ‖a‖₁ of FedNova.

Wang et al. 2020 ("Tackling the Objective Inconsistency Problem in Heterogeneous Federated
Optimization") write a client's accumulated update as η·Σ_k a_k·g_k. The sum ‖a‖₁ is what turns the
distance a client has moved back into a gradient: FedNova divides by it, and so does SCAFFOLD's
control update once the local optimizer has momentum.
"""

from __future__ import annotations


def normalizer(
    steps: int,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    proximal_mu: float = 0.0,
) -> float:
    """Return ‖a‖₁ for τ ≥ 1 steps of ``torch.optim.SGD`` (no dampening, no Nesterov).

    For a constant gradient g, parameters that start at x and end at y satisfy exactly ``x - y =
    learning_rate * normalizer * (g + weight_decay * x)``. With momentum ρ alone it is ``[τ - ρ(1 -
    ρ^τ)/(1 - ρ)]/(1 - ρ)``, with a proximal gradient μ(y - x) alone ``[1 - (1 - ημ)^τ]/(ημ)``.

    The recursion is used instead of the published closed forms because those count twice when
    momentum and the proximal term are both present.
    """
    if steps < 1:
        raise ValueError(f"a client that made {steps} local steps has no update to normalize")
    pull = learning_rate * (proximal_mu + weight_decay)
    velocity = distance = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1.0 - pull * distance
        distance += velocity
    return distance
