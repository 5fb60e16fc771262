"""A linear head trained on features: a convex problem, solved with no step size to choose."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear_head import LinearHead

# The weight of ½‖W‖²/C beside the mean cross-entropy, for features of unit mean square. It keeps
# the head finite where draws can be separated.
_DECAY = 1e-3
_ITERATIONS = 100


def trained_head(features: Tensor, labels: Tensor, shares: Tensor) -> LinearHead:
    """Return the head with the least cross-entropy on labelled features.

    Every class weighs its share however many features there are of it.

    Parameters
    ----------
    features : Tensor
        (n, d).
    labels : Tensor
        (n,) int64 in [0, C), at least one of each class.
    shares : Tensor
        (C,), π_c above 0.
    """
    counts = labels.bincount(minlength=len(shares)).double()
    weights = (shares.double() / shares.double().sum() / counts)[labels]
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
