"""Features by class as Gaussians, from sums over images of the clients or from pseudo images.

All in float64. C is the number of classes, d that of features; f are the features of an image, n_c
the images of class c whose features were added up, s_c their sum. Sums alone are needed, so that
what comes of clients is what comes of all their images in one place.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from foundation.models.class_statistics import class_means
from foundation.models.evaluation import features_of
from generation import PseudoData
from questions.class_statistics import ClassStatistics

from ..trained import Trained

# Pseudo images are alike in ways that real ones are not, which no formula for random errors of a
# covariance knows of. Chosen on images that no client trained on: docs/lab/2026-11-calibration.md.
_SHRINKAGE_OF_PSEUDO_IMAGES = 0.8
# Eigenvalues below so much of the mean one are raised to it: sums of noised features or rounding
# can make a covariance that is none.
_SMALLEST_EIGENVALUE = 1e-6


@dataclass(frozen=True)
class Gaussians:
    """The classes' features: their ``means`` (C, d), and a positive definite ``covariance``.

    ``shares`` (C,) are the classes' shares of the images, 0 where nothing is known of a class. The
    covariance is (d, d), or (C, d, d) one for each class; so much of it as ``shrinkage``, 0 to 1,
    is a sphere (the mean where there are several).
    """

    shares: Tensor
    means: Tensor
    covariance: Tensor
    shrinkage: float


def gaussians_of(
    trained: Trained, told: ClassStatistics | None, data: PseudoData | None
) -> Gaussians:
    """Return what the clients told, or else pseudo images, whose covariance is taken in any case.

    ValueError if there are too few images to know how features vary within a class.
    """
    of_pseudo = None if data is None else _of_pseudo_images(trained, data)
    if told is None:
        assert of_pseudo is not None
        return of_pseudo
    sums, counts = told.feature_sums, told.feature_counts
    assert sums is not None and counts is not None
    shares = torch.where(counts > 0, counts if told.label_counts is None else told.label_counts, 0)
    means = class_means(sums, counts)
    if of_pseudo is not None:
        return Gaussians(shares, means, of_pseudo.covariance, of_pseudo.shrinkage)
    if told.class_moments is not None:
        return Gaussians(shares, means, *_own_covariances(told.class_moments, sums, counts))
    if told.moment is not None:
        raw, freedom = pooled_covariance(told.moment, sums, counts)
    else:
        assert told.mean_products is not None
        raw, freedom = covariance_of_spread(told.mean_products, told.means_added, sums, counts)
    amount = oracle_approximating(raw, freedom)
    return Gaussians(shares, means, shrunk(raw, amount), amount)


def _own_covariances(class_moments: Tensor, sums: Tensor, counts: Tensor) -> tuple[Tensor, float]:
    """Return covariances (C, d, d) and their mean shrinkage; one image takes the pooled one."""
    own, freedoms = class_covariances(class_moments, sums, counts)
    pooled, freedom = pooled_covariance(class_moments.sum(0), sums, counts)
    amounts, covariances = [], []
    for matrix, free in zip(own, freedoms.tolist(), strict=True):
        usable = free > 0 and float(matrix.diagonal().sum()) > 0
        matrix, free = (matrix, free) if usable else (pooled, freedom)
        amounts.append(oracle_approximating(matrix, free))
        covariances.append(shrunk(matrix, amounts[-1]))
    return torch.stack(covariances), sum(amounts) / len(amounts)


def _of_pseudo_images(trained: Trained, data: PseudoData) -> Gaussians:
    """Return what pseudo images show: all classes count as equally frequent."""
    features = features_of(trained.model(trained.global_state), data.images).double()
    member = F.one_hot(data.labels, trained.inputs.classes).double()
    counts, sums = member.sum(0), member.T @ features
    raw, _ = pooled_covariance(features.T @ features, sums, counts)
    amount = _SHRINKAGE_OF_PSEUDO_IMAGES
    return Gaussians((counts > 0).double(), class_means(sums, counts), shrunk(raw, amount), amount)


def pooled_covariance(moment: Tensor, feature_sums: Tensor, counts: Tensor) -> tuple[Tensor, float]:
    """Return Σ = (B − Σ_c s_c·s_cᵀ/n_c)/(n − C'), and n − C', C' being the classes with images.

    B = Σ f·fᵀ, (d, d), is over the images that ``counts`` (C,) counts, more than there are classes
    (ValueError).
    """
    return _within(moment, float(counts.sum()), feature_sums, counts)


def covariance_of_spread(
    mean_products: Tensor, groups: int, feature_sums: Tensor, counts: Tensor
) -> tuple[Tensor, float]:
    """Return the covariance within classes that the spread of the clients' class means shows.

    If a client's images of a class are drawn like all others of it, the mean of n_k,c of them has
    the covariance Σ/n_k,c, so that Σ_k,c n_k,c·(μ_k,c − μ_c)(μ_k,c − μ_c)ᵀ = (G − C')·Σ on the mean
    over draws (FedCOF, Goswami et al. 2024). Where clients' images differ in more than labels, it
    is too large. Returned are it (d, d) and G − C', with G pairs (k, c) in ``mean_products``, Σ_k,c
    s_k,c·s_k,cᵀ/n_k,c; ValueError if no class is held by two clients.
    """
    return _within(mean_products, float(groups), feature_sums, counts)


def _within(
    products: Tensor, terms: float, feature_sums: Tensor, counts: Tensor
) -> tuple[Tensor, float]:
    freedom = terms - int((counts > 0).sum())
    if freedom < 1:
        raise ValueError(
            f"{terms:g} vectors of {int((counts > 0).sum())} classes show no spread within a class"
        )
    means = class_means(feature_sums, counts)
    between = means.T @ (counts.double().unsqueeze(1) * means)
    return (products.double() - between) / freedom, freedom


def class_covariances(
    class_moments: Tensor, feature_sums: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each class's own covariance Σ_c = (B_c − s_c·s_cᵀ/n_c)/(n_c − 1), and n_c − 1.

    (C, d, d) from B_c = Σ f·fᵀ over the images of class c, 0 for classes with fewer than two; and
    (C,), at least 0.
    """
    freedoms = (counts.double() - 1).clamp_min(0)
    means = class_means(feature_sums, counts)
    scatter = class_moments.double() - counts.double().view(-1, 1, 1) * (
        means.unsqueeze(2) * means.unsqueeze(1)
    )
    known = (freedoms > 0).view(-1, 1, 1)
    return torch.where(known, scatter / freedoms.clamp_min(1).view(-1, 1, 1), 0.0), freedoms


def oracle_approximating(covariance: Tensor, freedom: float) -> float:
    """Return the weight a of (1 − a)·S + a·(tr S/d)·I that is nearest to the true covariance.

    In [0, 1], for the covariance S (d, d) of ``freedom`` (above 0) Gaussian vectors around their
    known mean: the oracle approximating shrinkage of Chen, Wiesel, Eldar and Hero (2010), equation
    23. It needs S and the number of vectors alone; the weight of Ledoit and Wolf (2004) needs the
    fourth moments of the features too, which nobody sends.
    """
    width = covariance.shape[0]
    trace = float(covariance.diagonal().sum())
    square = float(covariance.square().sum())
    above = (1 - 2 / width) * square + trace**2
    below = (freedom + 1 - 2 / width) * (square - trace**2 / width)
    return 1.0 if below <= above else above / below


def shrunk(covariance: Tensor, amount: float) -> Tensor:
    """Return (1 − a)·S + a·(tr S/d)·I, with eigenvalues above 0, for symmetric S and a in [0, 1].

    ValueError if the trace is not above 0: features that do not vary within classes.
    """
    matrix = covariance.double()
    mean = float(matrix.diagonal().mean())
    if not mean > 0:
        raise ValueError("the features do not vary within classes")
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values = ((1 - amount) * values + amount * mean).clamp_min(_SMALLEST_EIGENVALUE * mean)
    regular: Tensor = (vectors * values) @ vectors.T
    return regular
