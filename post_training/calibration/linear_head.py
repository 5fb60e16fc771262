"""Linear heads: the discriminant in closed form, and one that is trained on features.

All in float64. C is the number of classes, d that of features.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from foundation.models.classifier import LinearHead

# The weight of ½‖W‖²/C beside the mean cross-entropy, for features of unit mean square. It keeps
# the head finite where draws can be separated.
_DECAY = 1e-3
_ITERATIONS = 100


def discriminant_head(means: Tensor, covariance: Tensor, shares: Tensor) -> LinearHead:
    """Return w_c = Σ⁻¹μ_c, b_c = log π_c − ½·μ_cᵀΣ⁻¹μ_c (Fisher 1936; Hastie et al., section 4.3).

    The head that is right if features are Gaussian with means μ (C, d), one positive definite
    covariance Σ (d, d), and class shares π (C,) above 0: softmax of its logits is the probability
    of the classes.
    """
    weight = torch.linalg.solve(covariance.double(), means.double().T).T
    bias = shares.double().log() - 0.5 * (weight * means.double()).sum(1)
    return LinearHead(weight, bias)


def trained_head(features: Tensor, labels: Tensor, shares: Tensor) -> LinearHead:
    """Return the head with the least cross-entropy on features (n, d) and labels (n,).

    A convex problem, solved with no step size to choose. Every class weighs its share π_c, above 0,
    however many features there are of it, at least one.
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


def virtual_features(
    means: Tensor, covariances: Tensor, per_class: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw Gaussian features of every class in place of those of images (CCVR, Luo et al. 2021).

    From means (C, d) and positive definite covariances, (C, d, d) or one (d, d) for all classes:
    features (C·per_class, d) float64 and their labels (C·per_class,) int64.
    """
    generator = torch.Generator().manual_seed(seed)
    classes, width = means.shape
    noise = torch.randn(classes, per_class, width, generator=generator, dtype=torch.float64)
    roots = torch.linalg.cholesky(covariances.double())
    features = means.double().unsqueeze(1) + noise @ roots.mT
    labels = torch.arange(classes).repeat_interleave(per_class)
    return features.reshape(-1, width), labels
