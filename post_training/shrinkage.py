"""Shrinkage of a covariance towards a multiple of the identity, as much as its own sums ask for."""

from __future__ import annotations

import torch
from torch import Tensor

# Eigenvalues below so much of the mean one are raised to it: sums of noised features or rounding
# can make a covariance that is none.
_SMALLEST_EIGENVALUE = 1e-6


def oracle_approximating(covariance: Tensor, freedom: float) -> float:
    """Return the weight a of (1 − a)·S + a·(tr S/d)·I that is nearest to the true covariance.

    The oracle approximating shrinkage of Chen, Wiesel, Eldar and Hero (2010), equation 23. It needs
    S and the number of vectors alone; the weight of Ledoit and Wolf (2004) needs the fourth moments
    of the features too, which nobody sends.

    Parameters
    ----------
    covariance : Tensor
        (d, d), S, the covariance of ``freedom`` Gaussian vectors around their known mean.
    freedom : float
        n, above 0.

    Returns
    -------
    float
        In [0, 1].
    """
    width = covariance.shape[0]
    trace = float(covariance.diagonal().sum())
    square = float(covariance.square().sum())
    above = (1 - 2 / width) * square + trace**2
    below = (freedom + 1 - 2 / width) * (square - trace**2 / width)
    return 1.0 if below <= above else above / below


def shrunk(covariance: Tensor, amount: float) -> Tensor:
    """Return (1 − a)·S + a·(tr S/d)·I, with eigenvalues above 0.

    Parameters
    ----------
    covariance : Tensor
        (d, d), S, symmetric.
    amount : float
        a in [0, 1]; 0 leaves a covariance with positive eigenvalues as it is, 1 leaves a sphere.

    Returns
    -------
    Tensor
        (d, d) float64.

    Raises
    ------
    ValueError
        If the trace is not above 0: features that do not vary within classes.
    """
    matrix = covariance.double()
    mean = float(matrix.diagonal().mean())
    if not mean > 0:
        raise ValueError("the features do not vary within classes")
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values = ((1 - amount) * values + amount * mean).clamp_min(_SMALLEST_EIGENVALUE * mean)
    regular: Tensor = (vectors * values) @ vectors.T
    return regular
