"""From encoded images (PNG, JPEG, …) to uint8 arrays, each image decoded once in its life."""

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from foundation.errors import DataError
from foundation.wording import listed

from .agreement import Description
from .names import shown

if TYPE_CHECKING:
    from PIL.Image import Image

# What a source may hand over for one image: a file, its encoded bytes, or pixels already decoded
# (uint8, (H, W) or (H, W, 3)).
Encoded = Path | bytes | npt.NDArray[np.uint8]
Read = TypeVar("Read")

# The EXIF tag that says how a camera was held, and its values for a quarter turn.
_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})

# Grey of more than 8 bits; Pillow's own conversion would clip some of them in silence.
_DEEP_GREY_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_GREY_MODES = frozenset({"1", "L", "LA"}) | _DEEP_GREY_MODES
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})


@dataclass(frozen=True)
class Records:
    """One split of a source, before decoding.

    `images` returns an iterator over the encoded images, in order, as often as it is called;
    labels are int64 (n,); `where` says where image i comes from ("train.parquet row 7").
    """

    images: Callable[[], Iterator[Encoded]]
    labels: npt.NDArray[np.int64]
    where: Callable[[int], str]

    def subset(self, rows: npt.NDArray[np.int64]) -> "Records":
        """Return some of the images, by ascending rows."""
        kept = frozenset(rows.tolist())
        return Records(
            lambda: (image for row, image in enumerate(self.images()) if row in kept),
            self.labels[rows],
            lambda index: self.where(int(rows[index])),
        )

    def digests(self) -> npt.NDArray[np.uint8]:
        """Return a digest of every image as it is stored, uint8 (n, 16)."""
        found = [_digest(image) for image in self.images()]
        return np.frombuffer(b"".join(found), dtype=np.uint8).reshape(-1, 16)

    @classmethod
    def joined(cls, parts: "Sequence[Records]") -> "Records":
        """Put images one after the other."""
        ends = np.cumsum([len(part.labels) for part in parts])

        def where(index: int) -> str:
            part = int(np.searchsorted(ends, index, side="right"))
            return parts[part].where(index - int(ends[part] - len(parts[part].labels)))

        return cls(
            lambda: chain.from_iterable(part.images() for part in parts),
            np.concatenate([part.labels for part in parts]),
            where,
        )


def _digest(image: Encoded) -> bytes:
    try:
        content = image.read_bytes() if isinstance(image, Path) else bytes(image)
    except OSError:  # a missing file; whoever decodes it says so
        content = str(image).encode(errors="surrogateescape")
    return hashlib.blake2b(content, digest_size=16).digest()


#: What to do about images of several sizes.
RESIZING = (
    "image-size=64 brings all to 64x64 pixels (the shorter side is resized, the centre cut out)"
)

_LEAVING_OUT = "unreadable-images=leave-out goes on without such files"


def inspect(
    records: Records, name: str, *, resized: bool = False, leave_out_unreadable: bool = False
) -> tuple[int, tuple[int, int], str]:
    """Read the headers of all images and find what they share: their first size, if `resized`.

    Returns channels and (height, width). Grey and colour images mixed count as colour; the text is
    then a warning, else empty. No image, an unreadable header, a mode without an 8-bit form, and
    several sizes are a DataError.
    """
    first_of_size: dict[tuple[int, int], str] = {}
    first_of_channels: dict[int, str] = {}
    try:
        for index, (channels, size) in _each(records, _header, leave_out_unreadable):
            where = records.where(index)
            first_of_size.setdefault(size, where)
            first_of_channels.setdefault(channels, where)
    except UnreadableImages:
        # Those are named with them whose pixels are damaged behind a whole header.
        for _ in _each(records, lambda image, at: decode_image(image, 3, at), False):
            pass
        raise
    if not first_of_size:
        raise DataError(f"{name} holds no image that can be read")
    if len(first_of_size) > 1 and not resized:
        raise _sizes_differ(first_of_size)
    warning = ""
    if len(first_of_channels) > 1:
        warning = (
            f"{name} mixes grey images ({first_of_channels[1]}) and colour images "
            f"({first_of_channels[3]}): all are used as RGB"
        )
    return max(first_of_channels), next(iter(first_of_size)), warning


def decode(
    records: Records,
    like: Description,
    out: npt.NDArray[np.uint8],
    *,
    leave_out_unreadable: bool = False,
) -> npt.NDArray[np.int64]:
    """Decode images into the first rows of `out`, uint8 (n, C, H, W), and say which these are.

    A corrupt image, or one of another size than the description's, is a DataError that names it.
    """
    rows: list[int] = []
    target = like.image_size if like.resized else None

    def pixels_of(encoded: Encoded, where: str) -> npt.NDArray[np.uint8]:
        return decode_image(encoded, like.channels, where, target)

    for index, pixels in _each(records, pixels_of, leave_out_unreadable):
        height, width = pixels.shape[1:]
        if (height, width) != like.image_size:
            found = {like.image_size: "the data set", (height, width): records.where(index)}
            raise _sizes_differ(found)
        out[len(rows)] = pixels
        rows.append(index)
    if len(out) and not rows:
        raise DataError(f"none of the {len(out)} images can be read, such as {records.where(0)}")
    return np.array(rows, dtype=np.int64)


def _each(
    records: Records, read: Callable[[Encoded, str], Read], leave_out_unreadable: bool
) -> Iterator[tuple[int, Read]]:
    """Read every image, with its row; those that cannot be read may be left out."""
    index, problems = -1, list[str]()
    for index, encoded in enumerate(records.images()):
        try:
            found = read(encoded, records.where(index))
        except DataError as error:
            problems.append(str(error))
        else:
            yield index, found
    if problems and not leave_out_unreadable:
        raise UnreadableImages(problems)
    if index + 1 != len(records.labels):
        last, labels = records.where(max(index, 0)), len(records.labels)
        raise DataError(f"{last} is the last image, but there are {labels} labels")


def decode_image(
    encoded: "Encoded | Image", channels: int, where: str, size: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode one image to uint8 of shape (channels, H, W), converting grey and colour.

    It is turned as its EXIF orientation says, and transparent parts are laid on white. Grey of 16
    bits is scaled by its whole range, so that 65535 becomes 255. Where a `size` (height, width) is
    given, the image is scaled until it covers that, and the centre is cut out. An image of Pillow's
    is closed.
    """
    from PIL import Image, ImageOps

    with _known_errors(where):
        if isinstance(encoded, np.ndarray):
            encoded = Image.fromarray(encoded)
        with encoded if isinstance(encoded, Image.Image) else _opened(encoded) as image:
            _channels_of(image, where)
            if size is not None:
                # JPEG can be decoded at a fraction of its size; twice the target loses nothing.
                image.draft(None, (2 * max(size), 2 * max(size)))
            upright = _as_seen(image, where).convert("L" if channels == 1 else "RGB")
            if size is not None:
                upright = ImageOps.fit(upright, size[::-1], Image.Resampling.BICUBIC)
            pixels = np.asarray(upright)
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)


def _as_seen(image: "Image", where: str) -> "Image":
    """Return an image as a viewer shows it: upright, and on white where it is transparent."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP_GREY_MODES:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise DataError(
                f"{where} has pixels from {values.min()} to {values.max()}, more than 16 bits "
                "hold: convert the images to 8 bits per channel"
            )
        pixels = np.rint(values / 257).astype(np.uint8)
        # The PNG format can declare one grey value transparent.
        if isinstance(transparent := image.info.get("transparency"), int):
            pixels[values == transparent] = 255
        return Image.fromarray(pixels)
    if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _opened(encoded: Path | bytes) -> "Image":
    from PIL import Image

    if not (encoded if isinstance(encoded, bytes) else encoded.stat().st_size):
        raise ValueError("it is empty")
    with warnings.catch_warnings():
        # Photographs of 100 megapixels are no attack; of twice as many, Pillow opens none.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)


def _header(encoded: Encoded, where: str) -> tuple[int, tuple[int, int]]:
    if isinstance(encoded, np.ndarray):
        return (1 if encoded.ndim == 2 else 3), (encoded.shape[0], encoded.shape[1])
    with _known_errors(where), _opened(encoded) as image:
        height, width = image.height, image.width
        if image.getexif().get(_ORIENTATION, 1) in _TURNED:
            height, width = width, height
        return _channels_of(image, where), (height, width)


def _channels_of(image: "Image", where: str) -> int:
    # Cameras put a second picture behind the first (MPO); the first is the photograph.
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    if frames > 1:
        raise DataError(f"{where} holds {frames} pictures: save the one that is meant by itself")
    if image.mode in _GREY_MODES:
        return 1
    if image.mode in _COLOUR_MODES:
        return 3
    # Float images and the like: Pillow would clip them to 8 bits in silence.
    raise DataError(f"{where} has mode {image.mode}: convert the images to 8 bits per channel")


@contextmanager
def _known_errors(where: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{where}: there is no file {shown(error.filename or '')}")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{where} is a folder without an image")
    if type(error).__name__ == "DecompressionBombError":
        return DataError(f"{where} is larger than what is read: scale it down ({error})")
    # Pillow's own sentence repeats the file, or says where in memory its content is.
    unknown = type(error).__name__ == "UnidentifiedImageError"
    reason = "its content is of no kind that is known" if unknown else error
    return DataError(f"{where} is not a readable image ({reason})")


class UnreadableImages(DataError):
    """Images that cannot be read, all of them; ``problems`` say of each what is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        count = f"{len(problems):,} images cannot be read: " if len(problems) > 1 else ""
        super().__init__(f"{count}{listed(problems, '; ')}; {_LEAVING_OUT}")
        self.problems = problems


class SizesDiffer(DataError):
    """Images of several sizes where one is needed; `what` says which."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: {RESIZING}")
        self.what = what


def _sizes_differ(first_of_size: dict[tuple[int, int], str]) -> SizesDiffer:
    ((size, where), (other_size, other)) = list(first_of_size.items())[:2]
    message = (
        f"images differ in size: {other} is {other_size[0]}x{other_size[1]} pixels, {where} is "
        f"{size[0]}x{size[1]} (height x width)"
    )
    if len(first_of_size) > 2:
        heights, widths = zip(*first_of_size, strict=True)
        message += (
            f"; there are {len(first_of_size)} sizes, {min(heights)} to {max(heights)} pixels high "
            f"and {min(widths)} to {max(widths)} wide"
        )
    return SizesDiffer(message)
