"""Weights of an ensemble's members, learned by sign steps (Co-Boosting, Dai et al. 2024)."""

import torch
from torch import Tensor

# Slopes that differ by less than rounding does have no sign.
_ROUNDING = 1e-12


def on_simplex(values: Tensor) -> Tensor:
    """Return the nearest weights, 0 or more, that sum to 1, of (K,) (Duchi et al. 2008)."""
    descending = values.sort(descending=True).values
    places = torch.arange(1, len(values) + 1, device=values.device)
    surplus = (descending.cumsum(0) - 1) / places
    kept = int((descending > surplus).sum())
    return (values - surplus[kept - 1]).clamp_min(0.0)


def weight_slope(weights: Tensor, answers: Tensor, labels: Tensor) -> Tensor:
    """Return ∂/∂w_k of the mean of CE(Σ_k w_k·z_k, y): the mean of Σ_c (p_c - 1[c = y])·z_k,c.

    Weights w are (K,), answers z (n, K, classes), labels y (n,); the slope is (K,) float64.
    """
    logits = answers.double()
    errors = torch.einsum("k,nkc->nc", weights.double(), logits).softmax(dim=1)
    errors[torch.arange(len(labels)), labels] -= 1.0
    return torch.einsum("nc,nkc->k", errors, logits) / len(labels)


def sign_step(weights: Tensor, answers: Tensor, labels: Tensor, size: float) -> Tensor:
    """Return weights after one step against the cross-entropy of the images' own classes.

    Of the slope only the part along the simplex counts: scaling all weights alike would change how
    sure the ensemble is, and not whom it trusts. Each weight moves by `size` before the step is
    brought back to the simplex.
    """
    slope = weight_slope(weights, answers, labels)
    slope = slope - slope.mean()
    direction = torch.where(slope.abs() > _ROUNDING * (1 + slope.abs().max()), slope.sign(), 0.0)
    return on_simplex(weights.double() - size * direction).to(weights)
