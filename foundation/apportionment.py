"""Splitting a whole number into whole numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def largest_remainder(total: int, weights: npt.ArrayLike) -> list[int]:
    """Split a whole number in proportion to weights, into whole numbers (Hamilton's method).

    Every part is its exact quota rounded down or up, and the parts sum to ``total``; among equal
    remainders the first gets the unit. A ``total`` or a weight below 0, and weights (parts,) that
    are not finite or all 0, are a ValueError.
    """
    values = np.asarray(weights, dtype=np.float64)
    if total < 0:
        raise ValueError(f"total = {total}: must be 0 or more")
    if not np.all(np.isfinite(values)) or np.any(values < 0) or values.sum() <= 0:
        raise ValueError(f"weights = {values.tolist()}: must be 0 or more, not all 0")
    quotas = total * values / values.sum()
    parts = np.floor(quotas).astype(np.int64)
    missing = total - int(parts.sum())
    order = np.argsort(-(quotas - parts), kind="stable")
    parts[order[:missing]] += 1
    return [int(part) for part in parts]
