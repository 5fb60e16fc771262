"""From encoded images (PNG, JPEG, …) to uint8 arrays, each image decoded once in its life."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# What a source may hand over for one image: a file, its encoded bytes, or pixels already decoded
# (uint8, (H, W) or (H, W, 3)).
Encoded = Path | bytes | npt.NDArray[np.uint8]

# The EXIF tag that says how a camera was held, and its values for a quarter turn.
_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})

_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})


@dataclass(frozen=True)
class Records:
    """One split of a source, before decoding.

    Attributes
    ----------
    images : callable
        Returns an iterator over the encoded images, in order; may be called more than once.
    labels : np.ndarray
        int64, shape (n,).
    where : callable
        Says where image i comes from, for messages ("train.parquet row 7").
    """

    images: Callable[[], Iterator[Encoded]]
    labels: npt.NDArray[np.int64]
    where: Callable[[int], str]


@dataclass(frozen=True)
class Shape:
    """Channels (1 or 3) and (height, width) that all images of a source share."""

    channels: int
    image_size: tuple[int, int]


def inspect(records: Records, name: str) -> tuple[Shape, str]:
    """Read the headers of all images and find what they share.

    Returns
    -------
    tuple of Shape and str
        Grey and colour images mixed count as colour; the text is then a warning, else empty.

    Raises
    ------
    DataError
        No image at all, an unreadable header, a mode without an 8-bit form, or two sizes (naming
        an image of each).
    """
    size: tuple[int, int] | None = None
    first_of_channels: dict[int, str] = {}
    for index, encoded in enumerate(records.images()):
        where = records.where(index)
        channels, this_size = _header(encoded, where)
        if size is None:
            size, first = this_size, where
        elif this_size != size:
            raise _sizes_differ(where, this_size, first, size)
        first_of_channels.setdefault(channels, where)
    if size is None:
        raise DataError(f"{name} holds no image")
    warning = ""
    if len(first_of_channels) > 1:
        warning = (
            f"{name} mixes grey images ({first_of_channels[1]}) and colour images "
            f"({first_of_channels[3]}): all are used as RGB"
        )
    return Shape(max(first_of_channels), size), warning


def decode(records: Records, shape: Shape, out: npt.NDArray[np.uint8]) -> None:
    """Decode every image of a split into ``out``, uint8 of shape (n, C, H, W).

    Raises
    ------
    DataError
        A corrupt image, or one of another size than `shape` says (naming it).
    """
    index = -1
    for index, encoded in enumerate(records.images()):
        pixels = decode_image(encoded, shape.channels, records.where(index))
        if pixels.shape[1:] != shape.image_size:
            raise _sizes_differ(
                records.where(index), pixels.shape[1:], "the data set", shape.image_size
            )
        out[index] = pixels
    if index + 1 != len(out):
        raise DataError(
            f"{records.where(max(index, 0))} is the last image, but there are {len(out)} labels"
        )


def decode_image(encoded: Encoded, channels: int, where: str) -> npt.NDArray[np.uint8]:
    """Decode one image to uint8 of shape (channels, H, W), converting grey and colour.

    It is turned as its EXIF orientation says, and transparent parts are laid on white.
    """
    from PIL import Image

    try:
        if isinstance(encoded, np.ndarray):
            image = Image.fromarray(encoded)
        else:
            image = Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)
        with image:
            _channels_of(image, where)
            pixels = np.asarray(_as_seen(image).convert("L" if channels == 1 else "RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        raise _unreadable(where, error) from error
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)


def _as_seen(image: "Image") -> "Image":
    """Return an image as a viewer shows it: upright, and on white where it is transparent."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _header(encoded: Encoded, where: str) -> tuple[int, tuple[int, int]]:
    from PIL import Image

    if isinstance(encoded, np.ndarray):
        return (1 if encoded.ndim == 2 else 3), (encoded.shape[0], encoded.shape[1])
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            height, width = image.height, image.width
            if image.getexif().get(_ORIENTATION, 1) in _TURNED:
                height, width = width, height
            return _channels_of(image, where), (height, width)
    except DataError:
        raise
    except Exception as error:  # see decode_image
        raise _unreadable(where, error) from error


def _channels_of(image: "Image", where: str) -> int:
    if image.mode in _GREY_MODES:
        return 1
    if image.mode in _COLOUR_MODES:
        return 3
    # 16-bit and float images: Pillow would clip them to 8 bits in silence.
    raise DataError(f"{where} has mode {image.mode}: convert the images to 8 bits per channel")


def _unreadable(where: str, error: Exception) -> DataError:
    return DataError(f"{where} is not a readable image ({error}): replace or remove it")


def _sizes_differ(
    where: str, size: tuple[int, ...], other: str, other_size: tuple[int, ...]
) -> DataError:
    return DataError(
        f"images differ in size: {where} is {size[0]}x{size[1]} pixels, {other} is "
        f"{other_size[0]}x{other_size[1]} (height x width): resize them all to one size"
    )
