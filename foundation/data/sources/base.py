"""What a source of images is: the one type for public data sets and a user's own files."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..decoding import Records
from ..images import Normalization

AUGMENTATIONS = ("none", "crop-flip", "crop-flip-rotate")

#: What the folder or the files of each split may be called, in order of preference.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}


# Fewest pixels a side of what may be a photograph.
_PHOTOGRAPH_SIDE = 16


def usual_augmentation(channels: int, size: tuple[int, int]) -> str:
    """Choose what suits images of a user's own: flips and crops for photographs.

    Grey images are often digits, letters or scans, which a flip turns into something else; smaller
    ones than `_PHOTOGRAPH_SIDE` lose too much of themselves to a crop.
    """
    return "crop-flip" if channels == 3 and min(size) >= _PHOTOGRAPH_SIDE else "none"


@dataclass(frozen=True)
class Description:
    """What a model and a report need to know of a data set, without its pixels.

    Attributes
    ----------
    name : str
        Name of the data set.
    class_names : tuple of str
        One name per class, in the order of the labels.
    channels : int
        1 (grey) or 3 (RGB).
    image_size : tuple of int
        (height, width) in pixels.
    normalization : Normalization
        Constants per channel.
    augmentation : str
        The augmentation that suits the data: ``none``, ``crop-flip`` or ``crop-flip-rotate``.
    resized : bool
        Whether images of other sizes are brought to `image_size`; else they are refused.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    normalization: Normalization
    augmentation: str = "none"
    resized: bool = False

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.channels, *self.image_size)

    def resized_to(self, side: int) -> "Description":
        """Describe the same images brought to a square of `side` pixels; 0: their own size."""
        return replace(self, image_size=(side, side), resized=True) if side else self


@dataclass(frozen=True)
class DataSource:
    """What a file declares, as `source = DataSource("name", open)`.

    Attributes
    ----------
    name : str
        The value of the key `dataset`.
    open : callable
        Takes `data-dir` and the class names that were given, or (), and returns the images.
    """

    name: str
    open: "Callable[[str, tuple[str, ...]], Source]"

    def __call__(self, data_dir: str, class_names: tuple[str, ...]) -> "Source":
        """Open the source, as a function of a user's own does it."""
        return self.open(data_dir, class_names)


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes
    ----------
    name : str
        Name of the data set, for messages and for the cache.
    identity : str
        What the content depends on (files with sizes and times, a hub id, a library's version).
        Same identity, same pixels: the cache relies on it.
    class_names : tuple of str
        One name per class.
    splits : tuple of str
        Which of ``train`` and ``test`` exist.
    records : callable
        Gives one split, not decoded.
    description : Description or None
        None: found by reading the images' headers (once, then cached).
    announced : tuple of str
        The classes that the files themselves speak of; it looks like an accident when one of
        them has no training image.
    sites : tuple of str
        Whose the training images are, where they came from several sites.
    site_sizes : tuple of int
        How many training images each site has; its rows follow those of the site before it.
    public : bool
        Whether anybody may see the images; else the cache shows them to nobody but their owner.
    image_size : int
        Side of the square that images are brought to, in pixels; 0: they must share one size.
    leave_out_unreadable : bool
        Whether images that cannot be read are left out; else the first of them is an error.
    """

    name: str
    identity: str
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    records: Callable[[str], Records]
    description: Description | None = None
    announced: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    site_sizes: tuple[int, ...] = ()
    public: bool = False
    image_size: int = 0
    leave_out_unreadable: bool = False
