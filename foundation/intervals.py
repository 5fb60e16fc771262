"""How far a share of some images may be from that of all such images: 95 % intervals."""

from __future__ import annotations

import math
from typing import Any

#: Standard normal quantile: 95 % lie within so many standard errors.
Z = 1.959964


def share_interval(share: float, images: int) -> tuple[float, float]:
    """Return the interval of a share of images by Wilson (1927), within [0, 1]."""
    weight = Z * Z / images
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / images + weight / (4 * images)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_interval(after: float, before: float, images: int) -> tuple[float, float]:
    """Return the interval of a difference of two shares of as many images by Newcombe (1998).

    His method 10 is for two independent samples. Two models on the same images are often right
    together, which makes the difference more certain than this says.
    """
    low_after, high_after = share_interval(after, images)
    low_before, high_before = share_interval(before, images)
    difference = after - before
    return (
        difference - math.hypot(after - low_after, high_before - before),
        difference + math.hypot(high_after - after, before - low_before),
    )


def paired_standard_error(gained: Any, lost: Any, images: Any) -> Any:
    """Return the standard error of a difference of two accuracies on the same images, above 0.

    ``gained`` and ``lost`` are the images that only the candidate, and only λ = 0, classifies
    correctly. The difference is the mean over images of d ∈ {-1, 0, 1}, whose variance is (g + l)/n
    - ((g - l)/n)². Half an image is added to g and to l (as Agresti and Min 2005 do): without it a
    single image judged differently would exceed its own standard error, and none would mean
    certainty.

    The clients are all the clients there are, so that they are strata and not clusters drawn at
    random. The variance within strata is at most that of the pool, which is what is returned: with
    a handful of images a client's own variance says little.
    """
    discordant = gained + lost + 1.0
    return (discordant - (gained - lost) ** 2 / (images + 1.0)) ** 0.5 / images
