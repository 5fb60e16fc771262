"""What a source of images is: the one type for public data sets and a user's own files."""

from collections.abc import Callable
from dataclasses import dataclass

from ..decoding import Records
from ..images import Normalization

AUGMENTATIONS = ("none", "crop-flip", "crop-flip-rotate")

#: What the folder or the files of each split may be called, in order of preference.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}


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
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    normalization: Normalization
    augmentation: str = "none"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.channels, *self.image_size)


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
