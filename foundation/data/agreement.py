"""What a federation agrees on about its images, in a form that a message can carry.

A client numbers its labels by the server's description, brings its images to it, or refuses. So
sites that miss a class, or hold it under another number, still train one classifier.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from foundation.errors import DataError

from .images import Normalization
from .names import composed

AUGMENTATIONS = ("none", "crop-flip", "crop-flip-rotate")

# Fewest pixels a side of what may be a photograph.
_PHOTOGRAPH_SIDE = 16
_MOST_CLASSES = 100_000
_LARGEST_SIDE = 16_384


@dataclass(frozen=True)
class Description:
    """What a model and a report need to know of a data set, without its pixels.

    Class names are in the order of the labels, images are grey (1 channel) or RGB (3), and
    `image_size` is (height, width) in pixels: if `resized`, images of other sizes are brought to
    it; else they are refused.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    normalization: Normalization
    augmentation: str = "none"
    resized: bool = False

    @classmethod
    def of_own_images(
        cls, name: str, class_names: tuple[str, ...], channels: int, image_size: tuple[int, int]
    ) -> Self:
        """Describe images of a user's own.

        Constants are not measured: agreeing on them would mean sharing statistics of private
        images. Grey images are often digits, letters or scans, which a flip turns into something
        else, and small ones lose too much of themselves to a crop.
        """
        photographs = channels == 3 and min(image_size) >= _PHOTOGRAPH_SIDE
        return cls(
            name,
            class_names,
            channels,
            image_size,
            Normalization((0.5,) * channels, (0.5,) * channels),
            "crop-flip" if photographs else "none",
        )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.channels, *self.image_size)

    def resized_to(self, side: int) -> Self:
        """Describe the same images brought to a square of `side` pixels; 0: their own size."""
        return replace(self, image_size=(side, side), resized=True) if side else self


def announced(dataset: str, class_names: Sequence[str], shape: str) -> Description:
    """Describe images that nobody here has seen; a DataError names the keys to set.

    `shape` is channels, height and width in pixels: ``"3x32x32"``.
    """
    if not class_names or not shape:
        raise DataError(
            f"data set '{dataset}' needs data-dir, the directory of your images. A server without "
            "images needs class-names and image-shape instead, e.g. class-names='cat,dog' "
            "image-shape='3x32x32' (channels x height x width)"
        )
    names = tuple(composed(name) for name in class_names)
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"class-names = '{','.join(class_names)}': name two or more, each once")
    channels, height, width = parsed_shape(shape)
    return Description.of_own_images(dataset, names, channels, (height, width))


def parsed_shape(shape: str) -> tuple[int, int, int]:
    """Read channels, height and width from ``"3x32x32"``; all else is a DataError."""
    found = re.fullmatch(r"\s*([13])x(\d{1,5})x(\d{1,5})\s*", shape)
    channels, height, width = (int(part) for part in found.groups()) if found else (0, 0, 0)
    if not (0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE):
        raise DataError(
            f"image-shape = '{shape}' must be channels x height x width, such as 1x28x28 or "
            f"3x32x32: 1 (grey) or 3 (RGB) channels, at most {_LARGEST_SIDE} pixels a side"
        )
    return channels, height, width


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
    """Read what `to_values` wrote; None if there is none, a DataError if it cannot be right."""
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
        and min(std) > 0
    )
    if not sensible:
        raise DataError("the server's description of the data holds impossible values")
    return description
