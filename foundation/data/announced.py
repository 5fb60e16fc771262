"""Images that nobody here has seen: a server without any says what its clients' are like."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import DataError
from .images import Normalization
from .names import composed
from .sources import Description, usual_augmentation

_LARGEST_SIDE = 16_384


def announced(dataset: str, class_names: Sequence[str], shape: str) -> Description:
    """Describe images from a configuration alone.

    Clients that hold other classes, or images of another size, refuse.

    Parameters
    ----------
    dataset : str
        Name of the data set.
    class_names : sequence of str
        The classes, in the order of their labels: two or more, each once.
    shape : str
        Channels, height and width in pixels: ``"3x32x32"``.

    Raises
    ------
    DataError
        If classes or shape are missing or impossible; the message names the keys to set.
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
    return Description(
        name=dataset,
        class_names=names,
        channels=channels,
        image_size=(height, width),
        # As for images that are there: no site's own constants are measured.
        normalization=Normalization((0.5,) * channels, (0.5,) * channels),
        augmentation=usual_augmentation(channels, (height, width)),
    )


def parsed_shape(shape: str) -> tuple[int, int, int]:
    """Read channels, height and width from ``"3x32x32"``.

    Raises
    ------
    DataError
        If it is no shape of images.
    """
    found = re.fullmatch(r"\s*([13])x(\d{1,5})x(\d{1,5})\s*", shape)
    channels, height, width = (int(part) for part in found.groups()) if found else (0, 0, 0)
    if not (0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE):
        raise DataError(
            f"image-shape = '{shape}' must be channels x height x width, such as 1x28x28 or "
            f"3x32x32: 1 (grey) or 3 (RGB) channels, at most {_LARGEST_SIDE} pixels a side"
        )
    return channels, height, width
