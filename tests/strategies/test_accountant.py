"""ε and δ of noisy sums, against published values and against what they must be."""

import math

import numpy as np
import pytest

from strategies.privacy import delta_of, epsilon_of


@pytest.mark.parametrize(
    ("noise", "epsilon", "delta"),
    [
        # The calibration that OpenDP's test of its analytic Gaussian mechanism has.
        (3.730632, 1.0, 1e-5),
        # δ(ε) of 1-GDP: Φ(-ε + 1/2) - e^ε·Φ(-ε - 1/2), from tables of the normal distribution.
        (1.0, 0.0, 0.382925),
        (1.0, 1.0, 0.126937),
    ],
)
def test_published_values(noise: float, epsilon: float, delta: float) -> None:
    assert delta_of(noise, 1, epsilon) == pytest.approx(delta, rel=1e-4)
    if epsilon:
        assert epsilon_of(noise, 1, delta) == pytest.approx(epsilon, rel=1e-4)


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("releases", [1, 10, 100])
def test_it_is_what_renyi_privacy_bounds(noise: float, releases: int) -> None:
    """Mironov 2017: (α, T·α/2z²)-RDP; Canonne, Kamath and Steinke 2020, proposition 12."""
    delta, orders = 1e-5, np.linspace(1.01, 200, 20000)
    loss = releases * orders / (2 * noise**2)
    bounds = loss + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    exact = epsilon_of(noise, releases, delta)
    assert 0.75 * bounds.min() < exact <= bounds.min()


def test_it_is_the_hockey_stick_of_two_normal_distributions() -> None:
    """δ = ∫ max(0, p - e^ε·q) for p = N(μ, 1) and q = N(0, 1), summed on a fine grid."""
    noise, releases, epsilon = 2.0, 3, 0.8
    mu = math.sqrt(releases) / noise
    grid = np.linspace(-12, 14, 2_000_001)
    p, q = (np.exp(-((grid - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (mu, 0.0))
    stick = np.maximum(0, p - math.exp(epsilon) * q).sum() * (grid[1] - grid[0])
    assert delta_of(noise, releases, epsilon) == pytest.approx(stick, rel=1e-6)


def test_ends() -> None:
    assert epsilon_of(1.0, 0, 1e-5) == 0.0
    assert epsilon_of(1e9, 1, 1e-5) == 0.0
    assert epsilon_of(1e-9, 1, 1e-5) == math.inf
    spent = [epsilon_of(1.0, releases, 1e-5) for releases in range(1, 30)]
    assert spent == sorted(spent)
