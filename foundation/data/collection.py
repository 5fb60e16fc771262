"""A collection of labelled images: where they come from, described and decoded once per machine."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from foundation.errors import DataError, warn_once
from foundation.wording import listed

from .agreement import Description
from .cache import entry, new_array, open_arrays
from .decoding import RESIZING, Read, Records, UnreadableImages, decode, inspect
from .images import ImageData, refuse_labels_outside
from .partitions import split_by_content

#: What the folder or the files of each split may be called, in order of preference.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}

# Of the images of a class, what is held out for testing where nobody has test images.
_TEST_SHARE = 0.2

# Images and their labels.
Arrays = tuple[npt.NDArray[np.uint8], npt.ArrayLike]


@dataclass(frozen=True)
class Source:
    """A data set that a run can name; a file of ``sources/`` declares each.

    `open` gets from the data directory and the class names (or none) to its images, not decoded;
    `description` is known before, as that may be a download. A user's `own` needs a data directory.
    """

    name: str
    open: Callable[[str, tuple[str, ...]], "Collection"]
    description: Description | None = None
    own: bool = False


@dataclass(frozen=True)
class Collection:
    """Labelled images that are not decoded yet."""

    name: str
    #: Same identity, same pixels: the cache relies on it (files with sizes and times, a hub id).
    identity: str
    class_names: tuple[str, ...]
    #: Which of ``train`` and ``test`` exist; `records` gives each, not decoded.
    splits: tuple[str, ...]
    records: Callable[[str], Records]
    #: None: found by reading the images' headers (once, then cached).
    description: Description | None = None
    #: The classes that the files themselves speak of; one without a training image is warned of.
    announced: tuple[str, ...] = ()
    #: Whose the training images are, and how many of each, one site after the other.
    sites: tuple[str, ...] = ()
    site_sizes: tuple[int, ...] = ()
    #: Whose each of the test images is: a place among the sites, -1 the server's.
    test_sites: tuple[int, ...] = ()
    #: Whether a share of the training images may be held out for testing; one per site, or one.
    spare: tuple[bool, ...] = ()
    #: Whether that is where the test split comes from.
    draws_test: bool = False
    #: Whether anybody may see the images; else the cache shows them to nobody but their owner.
    public: bool = False
    #: Whether the name says all about the content: a data set that never changes.
    published: bool = False
    image_size: int = 0
    leave_out_unreadable: bool = False

    def __post_init__(self) -> None:
        """Refuse classes that share a name: their images could not be told apart."""
        twice = [name for name, count in Counter(self.class_names).items() if count > 1]
        if twice:
            raise DataError(f"data set '{self.name}' has two classes '{twice[0]}'")

    def with_own_test(self) -> Self:
        """Hold out a fifth of every class for testing, of every site that has no test images.

        Which images is a matter of their content alone, not of a seed, a name or a place.
        """
        if not any(self.spare):
            return self
        train = self.records("train")
        sizes = self.site_sizes or (len(train.labels),)
        site = np.repeat(np.arange(len(sizes)), sizes)
        may = np.array(self.spare)[site]
        strata = np.where(may, train.labels + site * len(self.class_names), -1)
        _, drawn = split_by_content(strata, self._stored_digests("train"), _TEST_SHARE)
        drawn = drawn[may[drawn]]
        if not len(drawn):
            return self
        kept = np.setdiff1d(np.arange(len(train.labels)), drawn)
        parts = [train.subset(drawn)]
        if "test" in self.splits:
            parts.insert(0, self.records("test"))
        return replace(
            self,
            identity=f"{self.identity}\nheld out by content: {_TEST_SHARE}",
            splits=("train", "test"),
            records=lambda split: train.subset(kept) if split == "train" else Records.joined(parts),
            site_sizes=tuple(np.bincount(site[kept], minlength=len(sizes)).tolist())
            if self.sites
            else (),
            test_sites=(*self.test_sites, *site[drawn].tolist()) if self.sites else (),
            spare=(),
            draws_test=True,
        )

    def describe(self) -> Description:
        """Describe the images; those of a user's own by their headers."""
        if self.description is not None:
            return self.description.resized_to(self.image_size)
        return _measured(self)

    def load(self, split: str) -> ImageData:
        """Load one split, memory-mapped and read-only, decoded once per machine (see `cache`).

        No such split, and bad data, is a DataError that names the file or row and says what to do.
        """
        if split not in self.splits:
            raise DataError(
                f"data set '{self.name}' has no {split} split, only {', '.join(self.splits)}"
            )
        names = self.describe().class_names
        try:
            images, labels, rows = self._decoded(split)
        except UnreadableImages:
            _of_each(self.splits, self._decoded)  # says what is wrong with the others, too
            raise
        data = ImageData(images, labels, names)
        if not len(data):
            raise DataError(f"data set '{self.name}' has no image in its {split} split")
        self._warn_of_left_out(split, rows)
        if split == "train":
            self._warn_of_empty_classes()
        return data

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """Return which of a split's records could be read, ascending."""
        return self._decoded(split)[2]

    def digests(self, split: str) -> npt.NDArray[np.uint8]:
        """Return a digest of every image of a split that can be read, uint8 (n, 16)."""
        if self.published:
            rows = np.arange(len(self._decoded(split)[2]), dtype=np.int64)
            return rows.view(np.uint8).reshape(-1, 8)

        digests = self._stored_digests(split)
        return digests[self._decoded(split)[2]] if self.leave_out_unreadable else digests

    def _stored_digests(self, split: str) -> npt.NDArray[np.uint8]:
        def make(directory: Path) -> None:
            np.save(directory / "digests.npy", self.records(split).digests())

        [digests] = open_arrays(
            f"{self.name}-{split}-digests",
            self.identity,
            make,
            ("digests",),
            private=not self.public,
        )
        return digests

    def training_sizes(self) -> tuple[int, ...]:
        """How many training images of each site can be read; empty for one whole."""
        if not (self.sites and self.leave_out_unreadable):
            return self.site_sizes
        # Which images can be read is known once all are decoded.
        _, _, rows = self._decoded("train")
        ends = np.searchsorted(rows, np.cumsum(self.site_sizes))
        return tuple(int(size) for size in np.diff(ends, prepend=0))

    def _decoded(
        self, split: str
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return a split's images and labels, and their rows among the records."""
        like = self.describe()

        def make(directory: Path) -> None:
            records = self.records(split)
            size = (len(records.labels), *like.image_shape)
            images = new_array(directory / "images.npy", size)
            leave_out = self.leave_out_unreadable
            rows = decode(records, like, images, leave_out_unreadable=leave_out)
            images.flush()
            np.save(directory / "labels.npy", records.labels[rows])
            np.save(directory / "rows.npy", rows)

        images, labels, rows = open_arrays(
            f"{self.name}-{split}",
            f"{self.identity}\n{like.image_shape}\n{self._reading}",
            make,
            ("images", "labels", "rows"),
            private=not self.public,
        )
        return images[: len(rows)], labels, rows

    @property
    def _reading(self) -> str:
        unreadable = "left out" if self.leave_out_unreadable else "refused"
        return f"image size {self.image_size}, unreadable {unreadable}"

    def _warn_of_left_out(self, split: str, rows: npt.NDArray[np.int64]) -> None:
        if not self.leave_out_unreadable:
            return
        records = self.records(split)
        missing = np.setdiff1d(np.arange(len(records.labels)), rows)
        if len(missing):
            places = listed([records.where(int(row)) for row in missing])
            warn_once(
                f"data set '{self.name}', {split} split: left out, because unreadable: {places}"
            )

    def label_counts(self, split: str) -> npt.NDArray[np.int64]:
        """Images of each class in a split, readable or not; zeros where there is no such split."""
        labels = self.records(split).labels if split in self.splits else ()
        return np.bincount(labels, minlength=len(self.class_names)).astype(np.int64)

    def _warn_of_empty_classes(self) -> None:
        if self.published:
            return
        counts = self.label_counts("train") + self.label_counts("test")
        numbers = {name: number for number, name in enumerate(self.class_names)}
        empty = [name for name in self.announced if counts[numbers[name]] == 0]
        if empty:
            warn_once(f"data set '{self.name}': no training image of class {listed(empty)}")


def _of_each(splits: Sequence[str], read: Callable[[str], Read]) -> dict[str, Read]:
    """Read something of every split; what cannot be read is said of all together."""
    found: dict[str, Read] = {}
    problems: list[str] = []
    for split in splits:
        try:
            found[split] = read(split)
        except UnreadableImages as error:
            problems += error.problems
    if problems:
        raise UnreadableImages(problems)
    return found


@lru_cache(maxsize=16)
def _measured(collection: Collection) -> Description:
    def make(directory: Path) -> None:
        def inspected(split: str) -> tuple[int, tuple[int, int], str]:
            return inspect(
                collection.records(split),
                f"data set '{collection.name}', {split} split",
                resized=bool(collection.image_size),
                leave_out_unreadable=collection.leave_out_unreadable,
            )

        found = _of_each(collection.splits, inspected)
        channels, sizes, warnings = zip(*found.values(), strict=True)
        if len(set(sizes)) > 1 and not collection.image_size:
            raise DataError(
                f"data set '{collection.name}': images differ in size between splits ("
                + ", ".join(
                    f"{split}: {size[0]}x{size[1]}" for split, (_, size, _) in found.items()
                )
                + f"): {RESIZING}"
            )
        said = [warning for warning in warnings if warning]
        stored = {"channels": max(channels), "image_size": sizes[0], "warnings": said}
        (directory / "shape.json").write_text(json.dumps(stored))

    identity = f"{collection.identity}\n{collection._reading}"
    place = entry(f"{collection.name}-shape", identity, make, private=not collection.public)
    stored = json.loads((place / "shape.json").read_text())
    # Kept with the result, so that the user reads them in every run and not in the first alone.
    for warning in stored["warnings"]:
        warn_once(warning)
    height, width = (int(side) for side in stored["image_size"])
    size = (collection.image_size,) * 2 if collection.image_size else (height, width)
    return Description.of_own_images(
        collection.name, collection.class_names, int(stored["channels"]), size
    ).resized_to(collection.image_size)


def in_memory(name: str, class_names: Sequence[str], **splits: Arrays) -> Collection:
    """Return images that are in memory as a collection, its classes in the order of the labels.

    The splits are ``train`` and, if there is one, ``test``: images, uint8 (n, H, W) or (n, H, W,
    3), and labels, whole numbers (n,), all else being a DataError. Without ``test``, a fifth of
    every class is held out.
    """
    for split, (images, labels) in splits.items():
        _check_arrays(f"data set '{name}', {split}", images, labels, len(class_names))
    content = hashlib.sha256()
    for images, labels in splits.values():
        content.update(np.ascontiguousarray(images).tobytes() + np.asarray(labels).tobytes())

    def records(split: str) -> Records:
        images, labels = splits[split]
        where = f"data set '{name}', {split} image "
        return Records(lambda: iter(images), np.asarray(labels, np.int64), lambda i: f"{where}{i}")

    return Collection(
        name=name,
        identity=f"arrays {content.hexdigest()}",
        class_names=tuple(class_names),
        splits=tuple(splits),
        records=records,
        announced=tuple(class_names),
        spare=("test" not in splits,),
    )


def _check_arrays(
    where: str, images: npt.NDArray[np.generic], labels: npt.ArrayLike, classes: int
) -> None:
    """Refuse what would be misread: Pillow takes wider integers for grey of 16 bits."""
    given, told = np.asarray(images), np.asarray(labels)
    colour = given.ndim == 4 and given.shape[3] == 3
    if given.dtype != np.uint8 or not (given.ndim == 3 or colour):
        raise DataError(
            f"{where}: images are {given.dtype} of shape {given.shape}; uint8 (0 to 255) of shape "
            "(n, H, W) or (n, H, W, 3) is read"
        )
    if told.dtype.kind not in "iu" or told.shape != given.shape[:1]:
        raise DataError(
            f"{where}: labels are {told.dtype} of shape {told.shape}; whole numbers of shape "
            f"({len(given)},) are read, one for each image"
        )
    refuse_labels_outside(told, classes, lambda row: f"{where} image {row}")
