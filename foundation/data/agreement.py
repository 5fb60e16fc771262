"""What a federation agrees on about its images, in a form that a message can carry.

The server describes the data set; a client numbers its labels by that description, brings its
images to it, or refuses. So sites that miss a class, or hold it under another number, still train
one classifier.
"""

import math
from collections.abc import Mapping
from typing import Any

from .errors import DataError
from .images import Normalization
from .sources import Description

_MOST_CLASSES = 100_000
_LARGEST_SIDE = 16_384


def to_values(description: Description) -> dict[str, Any]:
    """Write a description as numbers, texts and lists of one type each."""
    return {
        "data-name": description.name,
        "data-classes": list(description.class_names),
        "data-channels": description.channels,
        "data-image-size": list(description.image_size),
        "data-mean": [float(value) for value in description.normalization.mean],
        "data-std": [float(value) for value in description.normalization.std],
        "data-augmentation": description.augmentation,
        "data-resized": description.resized,
    }


def from_values(values: Mapping[str, Any]) -> Description | None:
    """Read what `to_values` wrote.

    Returns
    -------
    Description or None
        None if the values hold no description.

    Raises
    ------
    DataError
        If they hold one that cannot be right.
    """
    if "data-classes" not in values:
        return None
    try:
        names = tuple(str(name) for name in values["data-classes"])
        height, width = (int(side) for side in values["data-image-size"])
        channels = int(values["data-channels"])
        mean = tuple(float(value) for value in values["data-mean"])
        std = tuple(float(value) for value in values["data-std"])
        description = Description(
            name=str(values["data-name"]),
            class_names=names,
            channels=channels,
            image_size=(height, width),
            normalization=Normalization(mean, std),
            augmentation=str(values["data-augmentation"]),
            resized=bool(values["data-resized"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"the server's description of the data cannot be read: {error}") from error
    sensible = (
        0 < len(names) <= _MOST_CLASSES
        and len(set(names)) == len(names)
        and 0 < height <= _LARGEST_SIDE
        and 0 < width <= _LARGEST_SIDE
        and channels in (1, 3)
        and len(mean) == len(std) == channels
        and all(math.isfinite(value) for value in (*mean, *std))
        and all(value > 0 for value in std)
    )
    if not sensible:
        raise DataError("the server's description of the data holds impossible values")
    return description
