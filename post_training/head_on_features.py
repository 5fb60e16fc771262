"""A linear head trained on features: a convex problem, solved with no step size to choose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
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
    priors = shares.double() / shares.double().sum()
    weights = (priors / counts)[labels].unsqueeze(1)
    center = (weights * features.double()).sum(dim=0)
    inputs = features.double() - center
    size = float((weights * inputs.square()).sum(dim=0).mean().sqrt().clamp_min(1e-12))
    inputs = inputs / size
    classes, width = len(shares), features.shape[1]
    targets = F.one_hot(labels, classes).double()

    def loss_and_gradient(
        flat: npt.NDArray[np.float64],
    ) -> tuple[float, npt.NDArray[np.float64]]:
        head = torch.from_numpy(flat).reshape(classes, width + 1)
        weight, bias = head[:, :width], head[:, width]
        logs = F.log_softmax(inputs @ weight.T + bias, dim=1)
        loss = -(weights * targets * logs).sum() + 0.5 * _DECAY / classes * weight.square().sum()
        slope = weights * (logs.exp() - targets)
        by_weight = slope.T @ inputs + _DECAY / classes * weight
        gradient = torch.cat([by_weight, slope.sum(dim=0).unsqueeze(1)], dim=1)
        return float(loss), gradient.flatten().numpy()

    start = torch.cat([torch.zeros(classes, width).double(), priors.log().unsqueeze(1)], dim=1)
    found = minimize(
        loss_and_gradient,
        start.flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ITERATIONS, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-8},
    )
    head = torch.from_numpy(found.x).reshape(classes, width + 1)
    weight = head[:, :width] / size
    return LinearHead(weight, head[:, width] - weight @ center)
