"""Virtual features (CCVR, Luo et al. 2021): Gaussian draws in place of the features of images."""

from __future__ import annotations

import torch
from torch import Tensor


def virtual_features(
    means: Tensor, covariances: Tensor, per_class: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw features of every class.

    Parameters
    ----------
    means : Tensor
        (C, d).
    covariances : Tensor
        (C, d, d), or (d, d) for all classes alike; positive definite.
    per_class : int
        Draws of each class.
    seed : int
        Source of the draws.

    Returns
    -------
    features : Tensor
        (C·per_class, d) float64.
    labels : Tensor
        (C·per_class,) int64.
    """
    generator = torch.Generator().manual_seed(seed)
    classes, width = means.shape
    noise = torch.randn(classes, per_class, width, generator=generator, dtype=torch.float64)
    roots = torch.linalg.cholesky(covariances.double())
    features = means.double().unsqueeze(1) + noise @ roots.mT
    labels = torch.arange(classes).repeat_interleave(per_class)
    return features.reshape(-1, width), labels
