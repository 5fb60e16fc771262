"""‖a‖₁ against torch.optim.SGD itself, and against closed forms where they are exact."""

import pytest
import torch

from foundation.models.aggregation import normalizer

MOMENTA = [0.0, 0.5, 0.9]
STEPS = [1, 2, 7, 50]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_is_how_far_sgd_moves_for_a_constant_gradient(steps, momentum, weight_decay):
    """x - y = η·‖a‖₁·(g + λx) for a constant g."""
    learning_rate = 0.05
    start = torch.tensor([1.5, -2.0, 0.0], dtype=torch.float64)
    gradient = torch.tensor([0.4, 1.0, -3.0], dtype=torch.float64)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.SGD(
        [parameter], lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    for _ in range(steps):
        parameter.grad = gradient.clone()
        optimizer.step()
    length = normalizer(
        steps, learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    torch.testing.assert_close(
        start - parameter.detach(),
        learning_rate * length * (gradient + weight_decay * start),
        rtol=1e-12,
        atol=1e-13,
    )


@pytest.mark.parametrize("steps", STEPS)
def test_plain_sgd_counts_steps(steps):
    assert normalizer(steps, learning_rate=0.1) == steps


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_momentum_has_the_published_closed_form(steps, rho):
    """[τ - ρ(1 - ρ^τ)/(1 - ρ)]/(1 - ρ), Wang et al. 2020."""
    closed = (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)
    assert normalizer(steps, learning_rate=0.1, momentum=rho) == pytest.approx(closed, rel=1e-12)


@pytest.mark.parametrize("steps", STEPS)
def test_weight_decay_is_a_proximal_term_with_the_published_closed_form(steps):
    """[1 - (1 - ημ)^τ]/(ημ), Wang et al. 2020."""
    rate, mu = 0.05, 0.7
    closed = (1 - (1 - rate * mu) ** steps) / (rate * mu)
    found = normalizer(steps, learning_rate=rate, weight_decay=mu)
    assert found == pytest.approx(closed, rel=1e-12)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_no_update(steps):
    with pytest.raises(ValueError, match="local steps"):
        normalizer(steps, learning_rate=0.1)
