"""Whether a model is better than guessing, as far as the images it was measured on can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedf2dg.report.run_record import mapping, number
from fedf2dg.report.tables import percent
from foundation.intervals import share_interval


def guessing(summary: Mapping[str, Any], classes: int) -> str:
    """Warn of a kept model that may know nothing.

    Parameters
    ----------
    summary : Mapping
        As ``summary.json`` holds it.
    classes : int
        C: guessing is right once in C, where all classes are equally frequent.

    Returns
    -------
    str
        A sentence, where 1/C is within the accuracy's 95 % interval; else empty, as where nothing
        was measured.
    """
    share = number(mapping(summary.get("accuracy")).get("selected"))
    measured = mapping(mapping(summary.get("measured")).get("selected"))
    images = int(number(measured.get("images")) or 0)
    if share is None or not images or classes < 2:
        return ""
    low, high = share_interval(share, images)
    if low > 1 / classes:
        return ""
    return (
        f"Not to be told from guessing among {classes} classes ({percent(1 / classes)}): measured "
        f"on {images:,} images, its accuracy may be anything from {percent(low)} to {percent(high)}"
    )
