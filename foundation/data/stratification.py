"""Choosing a part of a data set that keeps the shares of its classes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from foundation.apportionment import largest_remainder


def stratified_split(
    labels: npt.NDArray[np.int64],
    fraction: float,
    seed: int | Sequence[int],
    *,
    at_least_one_of: int = 0,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split rows into a large and a small part with the same class shares.

    Own code because scikit-learn's stratified split refuses a class with a single image, which
    here simply stays in the large part.

    Parameters
    ----------
    labels : np.ndarray
        int64, shape (n,).
    fraction : float
        Share of every class that goes to the small part, in [0, 1); rounded to whole images.
    seed : int or sequence of int
        Same labels, fraction and seed: same split.
    at_least_one_of : int (default: 0)
        A class of so many images gives at least one to the small part, if the fraction is above 0;
        0: no class has to.

    Returns
    -------
    tuple of np.ndarray
        Rows of the large and of the small part, both ascending.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        count = round(fraction * len(rows))
        if fraction > 0 and 0 < at_least_one_of <= len(rows):
            count = max(count, 1)
        # Never the whole class: training needs it more than a measurement does.
        count = min(count, len(rows) - 1)
        chosen[rows[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def stratified_subset(labels: npt.NDArray[np.int64], size: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose exactly ``size`` rows whose class shares are those of the whole.

    Shares are rounded by largest remainder, so every class differs from its exact share by less
    than one image.

    Parameters
    ----------
    labels : np.ndarray
        int64, shape (n,).
    size : int
        Rows wanted; ``size >= n`` returns all of them.
    seed : int
        Same labels, size and seed: same rows.

    Returns
    -------
    np.ndarray
        Ascending rows, shape (min(size, n),).
    """
    if size >= len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    present, totals = np.unique(labels, return_counts=True)
    counts = largest_remainder(size, totals)
    parts = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in zip(present, counts, strict=True)
    ]
    return np.sort(np.concatenate(parts))
