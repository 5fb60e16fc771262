"""A linear head trained on features, and the temperature of one that was not.

Both minimise a convex cross-entropy to its end, with no step size to choose. Every class weighs its
share however many features there are of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear_head import LinearHead

# The weight of ½‖W‖²/C beside the mean cross-entropy, for features of unit mean square. It keeps
# the head finite where draws can be separated.
_DECAY = 1e-3
_ITERATIONS = 100
_NEWTON_STEPS = 50


def trained_head(features: Tensor, labels: Tensor, shares: Tensor) -> LinearHead:
    """Return the head with the least cross-entropy on labelled features.

    Parameters
    ----------
    features : Tensor
        (n, d).
    labels : Tensor
        (n,) int64 in [0, C), at least one of each class.
    shares : Tensor
        (C,), π_c above 0.
    """
    weights = _weights(labels, shares)
    center = weights @ features.double()
    inputs = features.double() - center
    size = float((weights @ inputs.square()).mean().sqrt().clamp_min(1e-12))
    inputs = inputs / size
    weight = torch.zeros(len(shares), features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = shares.double().log().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(inputs @ weight.T + bias, labels, reduction="none")
        loss = weights @ losses + 0.5 * _DECAY * weight.square().sum() / len(shares)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    found = weight.detach() / size
    return LinearHead(found, bias.detach() - found @ center)


def fitted_scale(logits: Tensor, labels: Tensor, shares: Tensor) -> float:
    """Return the s > 0 that minimises the cross-entropy of s·z: one over the temperature.

    Parameters
    ----------
    logits : Tensor
        (n, C), z.
    labels : Tensor
        (n,) int64 in [0, C), at least one of each class.
    shares : Tensor
        (C,), π_c above 0.
    """
    weights = _weights(labels, shares)
    z = logits.double()
    right = weights @ z.gather(1, labels.unsqueeze(1)).squeeze(1)
    log_scale = 0.0
    for _ in range(_NEWTON_STEPS):
        scale = math.exp(log_scale)
        p = (scale * z).softmax(1)
        mean = (p * z).sum(1)
        slope = scale * (weights @ mean - right)
        curvature = scale**2 * (weights @ ((p * z.square()).sum(1) - mean.square())) + slope.abs()
        if float(curvature) <= 0:
            break
        # In log s, so that s stays positive; bounded, since far off nothing is quadratic.
        step = float((slope / curvature).clamp(-1.0, 1.0))
        log_scale = min(max(log_scale - step, -7.0), 7.0)
        if abs(step) < 1e-10:
            break
    return math.exp(log_scale)


def _weights(labels: Tensor, shares: Tensor) -> Tensor:
    """Return (n,) float64 weights that sum to π_c over the features of each class."""
    counts = labels.bincount(minlength=len(shares)).double()
    return (shares.double() / shares.double().sum() / counts)[labels]
