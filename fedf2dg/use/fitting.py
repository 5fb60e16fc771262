"""Bring an image to the size that a model takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps


def fitted(pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Scale an image until it covers a size, and cut out the centre.

    Parameters
    ----------
    pixels : np.ndarray
        uint8, shape (C, H, W), C = 1 or 3.
    size : tuple[int, int]
        Height and width to reach.

    Returns
    -------
    np.ndarray
        uint8, shape (C, *size); the same pixels if they have that size.
    """
    if pixels.shape[1:] == size:
        return pixels
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    found = np.asarray(ImageOps.fit(image, size[::-1], Image.Resampling.BICUBIC))
    return found[np.newaxis] if len(pixels) == 1 else found.transpose(2, 0, 1)
