"""Every data set by name: the embedded digits, the field's public sets and a user's own files."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foundation.members import DATA_SETS

from ..cache import entry, new_array, open_arrays
from ..decoding import RESIZING, Shape, decode, inspect
from ..errors import DataError, warn_once
from ..images import ImageData, Normalization
from .base import (
    AUGMENTATIONS,
    SPLIT_NAMES,
    DataSource,
    Description,
    Source,
    usual_augmentation,
)
from .folder import folder, refuse_a_single_class
from .hub import HUB_SETS
from .own import own_files
from .parquet import find_files, parquet, warn_of_others
from .sites import holds_sites, sites

__all__ = [
    "AUGMENTATIONS",
    "OWN_SETS",
    "Description",
    "Source",
    "describe",
    "has_split",
    "load_split",
    "own_files",
    "read_description",
    "read_split",
    "sites_in",
    "usual_augmentation",
]

SPLITS = ("train", "test")
#: Data sets that a user brings: their classes and files are not known beforehand.
OWN_SETS = ("parquet", "folder")


def _parquet(data_dir: str, class_names: tuple[str, ...]) -> Source:
    directory = _own_directory("parquet", data_dir)
    files = find_files(directory, SPLIT_NAMES)
    if not files:
        raise DataError(
            f"{directory} holds no train.parquet or test.parquet (or train-*.parquet, "
            f"test-*.parquet)"
        )
    warn_of_others(files)
    source = parquet("parquet", files, class_names)
    if len(source.class_names) == 1:
        raise DataError(
            f"{directory}: all labels are '{source.class_names[0]}': two classes are needed or more"
        )
    return source


def _folder(data_dir: str, class_names: tuple[str, ...]) -> Source:
    directory = _own_directory("folder", data_dir)
    if holds_sites(directory, class_names):
        return sites("folder", directory, class_names)
    source = folder("folder", directory, class_names)
    refuse_a_single_class(source, directory)
    return source


sources = (DataSource("parquet", _parquet), DataSource("folder", _folder))


def describe(
    dataset: str,
    data_dir: str = "",
    *,
    class_names: tuple[str, ...] = (),
    image_size: int = 0,
    leave_out_unreadable: bool = False,
) -> Description:
    """Describe a data set: classes, channels, image size, normalisation, augmentation.

    Known data sets are described without being loaded. For a user's own files the images' headers
    are read, once; the result is cached on disk.

    Parameters
    ----------
    dataset : str
        Its name.
    data_dir : str (default: "")
        Directory of the files; needed for ``parquet`` and ``folder``, optional for hub data sets.
    class_names : tuple of str (default: ())
        For ``parquet`` and ``folder``: the classes in order, instead of those the files show.
    image_size : int (default: 0)
        Side of the square that every image is brought to, in pixels: its shorter side is resized
        and its centre cut out. 0: the images' own size, which must be one for all.
    leave_out_unreadable : bool (default: False)
        Go on without images that cannot be read, naming them in a warning; else they are errors.

    Raises
    ------
    DataError
        See `load_split`.
    """
    if dataset in HUB_SETS and not class_names:
        # What `data_dir` holds is known, and a client need not have the server's directory.
        return HUB_SETS[dataset].description.resized_to(image_size)
    return read_description(
        _source(dataset, data_dir, tuple(class_names), image_size, leave_out_unreadable)
    )


@lru_cache(maxsize=16)
def load_split(
    dataset: str,
    split: str,
    data_dir: str = "",
    *,
    class_names: tuple[str, ...] = (),
    image_size: int = 0,
    leave_out_unreadable: bool = False,
) -> ImageData:
    """Load one split of a data set, decoding its images if no process on this machine has yet.

    The images are memory-mapped from the cache (see `cache`) and read-only; the object is kept
    for the life of the process.

    Parameters
    ----------
    dataset, data_dir, class_names, image_size, leave_out_unreadable
        See `describe`.
    split : str
        ``train`` or ``test``.

    Returns
    -------
    ImageData
        The split, in the order of its files.

    Raises
    ------
    DataError
        Unknown data set or split, missing files or network, or bad data: the message names the
        file or row and says what to do.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split '{split}': choose one of {', '.join(SPLITS)}")
    return read_split(
        _source(dataset, data_dir, tuple(class_names), image_size, leave_out_unreadable), split
    )


def has_split(
    dataset: str,
    split: str,
    data_dir: str = "",
    *,
    class_names: tuple[str, ...] = (),
    image_size: int = 0,
    leave_out_unreadable: bool = False,
) -> bool:
    """Tell whether a data set has a split; a user's own without `data_dir` has none here.

    Parameters
    ----------
    dataset, split, data_dir, class_names, image_size, leave_out_unreadable
        See `load_split`.

    Raises
    ------
    DataError
        Files that cannot be read; see `load_split`.
    """
    if dataset in HUB_SETS:  # not looked for: that may be a download
        return True
    if dataset in OWN_SETS and not data_dir:
        return False
    source = _source(dataset, data_dir, tuple(class_names), image_size, leave_out_unreadable)
    return split in source.splits


def sites_in(
    dataset: str,
    data_dir: str = "",
    *,
    class_names: tuple[str, ...] = (),
    image_size: int = 0,
    leave_out_unreadable: bool = False,
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the sites that a data set came from, and how many training images each has.

    Both are empty where the data set is one whole. The training split holds the images of the first
    site, then those of the next.
    """
    if dataset != "folder":
        return (), ()
    source = _source(dataset, data_dir, tuple(class_names), image_size, leave_out_unreadable)
    if not (source.sites and leave_out_unreadable):
        return source.sites, source.site_sizes
    # Which images can be read is known once all are decoded.
    _, _, rows = _decoded(source, "train")
    ends = np.searchsorted(rows, np.cumsum(source.site_sizes))
    return source.sites, tuple(int(size) for size in np.diff(ends, prepend=0))


def read_description(source: Source) -> Description:
    """Describe a source; see `describe`."""
    if source.description is not None:
        return source.description.resized_to(source.image_size)
    return _measured_description(source)


def read_split(source: Source, split: str) -> ImageData:
    """Load one split of a source; see `load_split`."""
    if split not in source.splits:
        raise DataError(
            f"data set '{source.name}' has no {split} split, only {', '.join(source.splits)}"
        )
    images, labels, rows = _decoded(source, split)
    data = ImageData(images, labels, read_description(source).class_names)
    if not len(data):
        raise DataError(f"data set '{source.name}' has no image in its {split} split")
    _warn_of_left_out(source, split, rows)
    if split == "train":
        _warn_of_empty_classes(source, data)
    return data


def _decoded(
    source: Source, split: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return a split's images and labels, and their rows among the source's records."""
    description = read_description(source)
    shape = Shape(description.channels, description.image_size)

    def make(directory: Path) -> None:
        records = source.records(split)
        size = (len(records.labels), shape.channels, *shape.image_size)
        images = new_array(directory / "images.npy", size)
        rows = decode(
            records,
            shape,
            images,
            resize=description.resized,
            leave_out_unreadable=source.leave_out_unreadable,
        )
        images.flush()
        np.save(directory / "labels.npy", records.labels[rows])
        np.save(directory / "rows.npy", rows)

    images, labels, rows = open_arrays(
        f"{source.name}-{split}",
        f"{source.identity}\n{shape}\n{_reading(source)}",
        make,
        ("images", "labels", "rows"),
        private=not source.public,
    )
    return images[: len(rows)], labels, rows


def _reading(source: Source) -> str:
    """Say how a source's images are read, for the identity of what the cache holds."""
    unreadable = "left out" if source.leave_out_unreadable else "refused"
    return f"image size {source.image_size}, unreadable {unreadable}"


def _warn_of_left_out(source: Source, split: str, rows: npt.NDArray[np.int64]) -> None:
    if not source.leave_out_unreadable:
        return
    records = source.records(split)
    missing = np.setdiff1d(np.arange(len(records.labels)), rows)
    if len(missing):
        shown = ", ".join(records.where(int(row)) for row in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        warn_once(
            f"data set '{source.name}', {split} split: left out, because unreadable: {shown}{more}"
        )


def _warn_of_empty_classes(source: Source, data: ImageData) -> None:
    counts = dict(zip(data.class_names, data.label_counts(), strict=True))
    empty = [name for name in source.announced if counts[name] == 0]
    if empty:
        shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        warn_once(f"data set '{source.name}': no training image of class {shown}")


@lru_cache(maxsize=16)
def _source(
    dataset: str,
    data_dir: str,
    class_names: tuple[str, ...],
    image_size: int,
    leave_out_unreadable: bool,
) -> Source:
    if class_names and dataset not in OWN_SETS and not DATA_SETS.is_foreign(dataset):
        raise DataError(f"class names are part of data set '{dataset}' and cannot be given")
    opened = DATA_SETS.load_function(dataset)(data_dir, class_names)
    if not isinstance(opened, Source):
        raise DataError(f"data set '{dataset}' gave a {type(opened).__name__}, and no Source")
    source = opened
    return replace(source, image_size=image_size, leave_out_unreadable=leave_out_unreadable)


def _own_directory(dataset: str, data_dir: str) -> Path:
    if not data_dir:
        raise DataError(f"data set '{dataset}' needs data-dir, the directory of your images")
    directory = Path(data_dir).expanduser()
    if not directory.is_dir():
        raise DataError(f"data-dir {directory} is not a directory")
    return directory


@lru_cache(maxsize=16)
def _measured_description(source: Source) -> Description:
    def make(directory: Path) -> None:
        found = {
            split: inspect(
                source.records(split),
                f"data set '{source.name}', {split} split",
                resized=bool(source.image_size),
                leave_out_unreadable=source.leave_out_unreadable,
            )
            for split in source.splits
        }
        shapes = {split: shape for split, (shape, _) in found.items()}
        sizes = {shape.image_size for shape in shapes.values()}
        if len(sizes) > 1 and not source.image_size:
            raise DataError(
                f"data set '{source.name}': images differ in size between splits ("
                + ", ".join(f"{s}: {v.image_size[0]}x{v.image_size[1]}" for s, v in shapes.items())
                + f"): {RESIZING}"
            )
        channels = max(shape.channels for shape in shapes.values())
        warnings = [warning for _, warning in found.values() if warning]
        text = json.dumps({"channels": channels, "image_size": sizes.pop(), "warnings": warnings})
        (directory / "shape.json").write_text(text)

    identity = f"{source.identity}\n{_reading(source)}"
    place = entry(f"{source.name}-shape", identity, make, private=not source.public)
    stored = json.loads((place / "shape.json").read_text())
    # Kept with the result, so that the user reads them in every run and not in the first alone.
    for warning in stored["warnings"]:
        warn_once(warning)
    channels = int(stored["channels"])
    height, width = (int(side) for side in stored["image_size"])
    size = (source.image_size,) * 2 if source.image_size else (height, width)
    return Description(
        name=source.name,
        class_names=source.class_names,
        channels=channels,
        image_size=size,
        # Not measured: every site of a federation would measure other constants, and agreeing on
        # them would mean sharing statistics of private images.
        normalization=Normalization((0.5,) * channels, (0.5,) * channels),
        augmentation=usual_augmentation(channels, size),
    ).resized_to(source.image_size)
