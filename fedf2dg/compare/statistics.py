"""Mean, spread and paired differences over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1 in the denominator) of some values.

    ``deviation`` is None for a single value, which has no spread.
    """

    count: int
    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, with the confidence interval of Student's paired t.

    ``low`` and ``high`` are None for a single pair, about whose spread nothing is known.
    """

    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero; never of two pairs, which can agree by chance."""
        if self.low is None or self.high is None or self.count < 3:
            return False
        return not self.low <= 0 <= self.high


def spread(values: Sequence[float]) -> Spread | None:
    """Return mean and standard deviation; None of nothing."""
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    deviation = float(array.std(ddof=1)) if len(array) > 1 else None
    return Spread(len(array), float(array.mean()), deviation)


def paired_difference(
    values: Sequence[float], baseline: Sequence[float], confidence: float = CONFIDENCE
) -> Difference | None:
    """Compare two methods that were run under the same seeds.

    Parameters
    ----------
    values, baseline : sequences of float, equally long
        Results of both, in the same order of seeds.
    confidence : float (default: 0.95)
        Of the interval.

    Returns
    -------
    Difference, optional
        Of ``values - baseline``: mean d, and d ± t(confidence, n - 1) · s / √n with s the standard
        deviation of the differences (Student 1908). None if there is no pair.

    Raises
    ------
    ValueError
        If the sequences differ in length.
    """
    if len(values) != len(baseline):
        raise ValueError(f"{len(values)} values cannot be paired with {len(baseline)}")
    found = spread([a - b for a, b in zip(values, baseline, strict=True)])
    if found is None:
        return None
    if found.deviation is None:
        return Difference(found.count, found.mean, None, None, None)
    reach = t_factor(found.count, confidence) * found.deviation / math.sqrt(found.count)
    return Difference(
        found.count, found.mean, found.deviation, found.mean - reach, found.mean + reach
    )


def t_factor(count: int, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided quantile of Student's t for ``count`` values (n - 1 degrees)."""
    return float(stats.t.ppf(0.5 + confidence / 2, count - 1))
