"""Features by class as Gaussians: means and covariances from sums over images.

Pure functions in float64. C is the number of classes, d that of features; f are the features of an
image, n_c the images of class c whose features were added up, s_c their sum. Everything here needs
sums alone, so that what comes of clients is what comes of all their images in one place.
"""

from __future__ import annotations

import torch
from torch import Tensor


def class_means(feature_sums: Tensor, counts: Tensor) -> Tensor:
    """Return μ_c = s_c / n_c, (C, d); 0 for classes without images.

    Parameters
    ----------
    feature_sums : Tensor
        (C, d), s_c.
    counts : Tensor
        (C,), n_c, 0 or more.
    """
    return feature_sums.double() / counts.double().clamp_min(1).unsqueeze(1)


def pooled_covariance(moment: Tensor, feature_sums: Tensor, counts: Tensor) -> tuple[Tensor, float]:
    """Return Σ = (B − Σ_c s_c·s_cᵀ/n_c)/(n − C'), the covariance within classes.

    Parameters
    ----------
    moment : Tensor
        (d, d), B = Σ f·fᵀ over the images that ``counts`` counts.
    feature_sums, counts : Tensor
        (C, d) and (C,), s_c and n_c.

    Returns
    -------
    covariance : Tensor
        (d, d).
    freedom : float
        n − C', with C' the classes that have images.

    Raises
    ------
    ValueError
        If there are no more images than classes.
    """
    return _within(moment, float(counts.sum()), feature_sums, counts)


def covariance_of_spread(
    mean_products: Tensor, groups: int, feature_sums: Tensor, counts: Tensor
) -> tuple[Tensor, float]:
    """Return the covariance within classes that the spread of the clients' class means shows.

    If a client's images of a class are drawn like all others of it, the mean of n_k,c of them has
    the covariance Σ/n_k,c, so that Σ_k,c n_k,c·(μ_k,c − μ_c)(μ_k,c − μ_c)ᵀ = (G − C')·Σ on the mean
    over draws (FedCOF, Goswami et al. 2024). Where clients' images differ in more than labels,
    it is too large.

    Parameters
    ----------
    mean_products : Tensor
        (d, d), Σ_k,c s_k,c·s_k,cᵀ/n_k,c over clients k and their classes c.
    groups : int
        G, the number of pairs (k, c) in it.
    feature_sums, counts : Tensor
        (C, d) and (C,), s_c and n_c over all clients.

    Returns
    -------
    covariance : Tensor
        (d, d).
    freedom : float
        G − C'.

    Raises
    ------
    ValueError
        If no class is held by two clients.
    """
    return _within(mean_products, float(groups), feature_sums, counts)


def class_covariances(
    class_moments: Tensor, feature_sums: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each class's own covariance Σ_c = (B_c − s_c·s_cᵀ/n_c)/(n_c − 1).

    Parameters
    ----------
    class_moments : Tensor
        (C, d, d), B_c = Σ f·fᵀ over the images of class c.
    feature_sums, counts : Tensor
        (C, d) and (C,), s_c and n_c.

    Returns
    -------
    covariances : Tensor
        (C, d, d); 0 for classes with fewer than two images.
    freedoms : Tensor
        (C,), n_c − 1, at least 0.
    """
    freedoms = (counts.double() - 1).clamp_min(0)
    means = class_means(feature_sums, counts)
    scatter = class_moments.double() - counts.double().view(-1, 1, 1) * (
        means.unsqueeze(2) * means.unsqueeze(1)
    )
    known = (freedoms > 0).view(-1, 1, 1)
    return torch.where(known, scatter / freedoms.clamp_min(1).view(-1, 1, 1), 0.0), freedoms


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
