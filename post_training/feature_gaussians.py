"""What is known of the features of each class, as Gaussians: from the clients or pseudo images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from foundation.models.features import features_of
from generation import PseudoData
from questions.class_statistics import ClassStatistics

from .class_gaussians import (
    class_covariances,
    class_means,
    covariance_of_spread,
    pooled_covariance,
)
from .shrinkage import oracle_approximating, shrunk
from .trained import Trained

# Pseudo images are alike in ways that real ones are not, which no formula for random errors of a
# covariance knows of. Chosen on images that no client trained on: docs/lab/2026-11-calibration.md.
_SHRINKAGE_OF_PSEUDO_IMAGES = 0.8


@dataclass(frozen=True)
class Gaussians:
    """The classes' features.

    Parameters
    ----------
    shares : Tensor
        (C,), the classes' shares of the images; 0: nothing is known of the class.
    means : Tensor
        (C, d).
    covariance : Tensor
        (d, d), or (C, d, d) one for each class; positive definite.
    shrinkage : float
        How much of the covariance is a sphere, 0 to 1; the mean where there are several.
    """

    shares: Tensor
    means: Tensor
    covariance: Tensor
    shrinkage: float


def gaussians_of(
    trained: Trained, told: ClassStatistics | None, data: PseudoData | None
) -> Gaussians:
    """Return what the clients told, with the covariance of pseudo images where there are some.

    Parameters
    ----------
    trained : Trained
        Its global model is the one that the features are of.
    told : ClassStatistics, optional
        With feature sums; None: pseudo images alone.
    data : PseudoData, optional
        Pseudo images; None: the covariance comes from what was told.

    Raises
    ------
    ValueError
        If there are too few images to know how features vary within a class.
    """
    covariance = None if data is None else _of_pseudo_images(trained, data)
    if told is None:
        assert covariance is not None
        return covariance
    sums, counts = told.feature_sums, told.feature_counts
    assert sums is not None and counts is not None
    shares = torch.where(counts > 0, counts if told.label_counts is None else told.label_counts, 0)
    means = class_means(sums, counts)
    if covariance is not None:
        return Gaussians(shares, means, covariance.covariance, covariance.shrinkage)
    if told.class_moments is not None:
        return _with_own_covariances(shares, means, told)
    if told.moment is not None:
        raw, freedom = pooled_covariance(told.moment, sums, counts)
    else:
        assert told.mean_products is not None
        raw, freedom = covariance_of_spread(told.mean_products, told.means_added, sums, counts)
    amount = oracle_approximating(raw, freedom)
    return Gaussians(shares, means, shrunk(raw, amount), amount)


def _with_own_covariances(shares: Tensor, means: Tensor, told: ClassStatistics) -> Gaussians:
    """Return Gaussians with a covariance each; a class of one image takes the pooled one."""
    assert told.class_moments is not None
    assert told.feature_sums is not None and told.feature_counts is not None
    own, freedoms = class_covariances(told.class_moments, told.feature_sums, told.feature_counts)
    pooled, freedom = pooled_covariance(
        told.class_moments.sum(0), told.feature_sums, told.feature_counts
    )
    amounts, covariances = [], []
    for matrix, free in zip(own, freedoms.tolist(), strict=True):
        usable = free > 0 and float(matrix.diagonal().sum()) > 0
        matrix, free = (matrix, free) if usable else (pooled, freedom)
        amounts.append(oracle_approximating(matrix, free))
        covariances.append(shrunk(matrix, amounts[-1]))
    shrinkage = sum(amounts) / len(amounts)
    return Gaussians(shares, means, torch.stack(covariances), shrinkage)


def _of_pseudo_images(trained: Trained, data: PseudoData) -> Gaussians:
    """Return what pseudo images show: all classes count as equally frequent."""
    features = features_of(trained.model(trained.global_state), data.images).double()
    member = F.one_hot(data.labels, trained.inputs.classes).double()
    counts, sums = member.sum(0), member.T @ features
    raw, _ = pooled_covariance(features.T @ features, sums, counts)
    amount = _SHRINKAGE_OF_PSEUDO_IMAGES
    return Gaussians(
        (counts > 0).double(),
        class_means(sums, counts),
        shrunk(raw, amount),
        amount,
    )
