"""The linear discriminant: the head that is right if features are Gaussian with one covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from .linear_head import LinearHead


def discriminant_head(means: Tensor, covariance: Tensor, shares: Tensor) -> LinearHead:
    """Return w_c = Σ⁻¹μ_c, b_c = log π_c − ½·μ_cᵀΣ⁻¹μ_c (Fisher 1936; Hastie et al., section 4.3).

    Softmax of its logits is the probability of the classes.

    Parameters
    ----------
    means : Tensor
        (C, d), μ_c.
    covariance : Tensor
        (d, d), Σ, positive definite.
    shares : Tensor
        (C,), π_c above 0: the classes' shares of the images.
    """
    weight = torch.linalg.solve(covariance.double(), means.double().T).T
    bias = shares.double().log() - 0.5 * (weight * means.double()).sum(1)
    return LinearHead(weight, bias)
