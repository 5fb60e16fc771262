"""A site's own files: what a path holds, and what of it is trained on or set aside."""

from dataclasses import replace
from pathlib import Path

from foundation.errors import DataError, warn_once

from ..agreement import Description
from ..collection import SPLIT_NAMES, Collection
from ..decoding import SizesDiffer
from ..images import ImageData
from ..names import shown
from ..partitions import HELD_OUT_FROM, split_by_content
from .class_folders import class_folders
from .parquet import find_files, parquet, warn_of_others


def own_files(path: Path, class_names: tuple[str, ...] = ()) -> Collection:
    """Find out what `path` is (a parquet file, parquet files or class folders) and read it."""
    if path.is_file() and path.suffix.lower() == ".parquet":
        return parquet(path.stem, {"train": [path]}, class_names)
    if not path.is_dir():
        raise DataError(f"{shown(path)} is neither a directory nor a .parquet file")
    files = find_files(path, SPLIT_NAMES)
    if files:
        warn_of_others(path, files)
        return parquet(path.name, files, class_names)
    return class_folders(path.name, path, class_names)


def site_data(
    path: str | Path,
    split: str = "train",
    *,
    like: Description | None = None,
    class_names: tuple[str, ...] = (),
    holdout: float = 0.0,
    site: str = "",
    image_size: int = 0,
    leave_out_unreadable: bool = False,
) -> ImageData:
    """Load the data of a real site (an edge client that has its own files).

    `path` is a ``.parquet`` file, a directory of ``train.parquet`` (and ``test.parquet``), or one
    of class folders, plain or below ``train`` (and ``test``). `like` is what the federation agreed
    on: labels are numbered by its classes, images are brought to its channels, and to its size if
    it says so. Without it, the site's own description holds, with `class_names` and `image_size`.

    The split ``test`` is the site's own test files, else the share `holdout` of each class; a class
    of `HELD_OUT_FROM` images or more gives at least one. The draw depends on the images' content
    alone: one that is set aside is not trained on later, whatever its file is called. Messages call
    the site `site`, else by its path.

    Files that cannot be read, a class, a size or a label that the federation does not have, and no
    training image are a DataError.
    """
    where = Path(path).expanduser()
    name = site or f"site {shown(where)}"
    if not 0 <= holdout < 1:
        raise DataError(f"{name}: holdout is a share in [0, 1), not {holdout}")
    try:
        files = own_files(where, like.class_names if like is not None else tuple(class_names))
        if like is not None:
            image_size = like.image_size[0] if like.resized else 0
        files = replace(files, image_size=image_size, leave_out_unreadable=leave_out_unreadable)
        if like is not None:
            _check_fit(files.describe(), like, name)
            files = replace(files, description=like)
        if "test" in files.splits or holdout == 0:
            data = files.load(split)
        else:
            whole = files.load("train")
            kept, set_aside = split_by_content(
                whole.labels, files.digests("train"), holdout, at_least_one_of=HELD_OUT_FROM
            )
            data = whole.subset(kept if split == "train" else set_aside)
    except SizesDiffer as error:
        if like is None:
            raise DataError(f"{name}: {error}") from error
        # The cure first: a long text is cut on its way to the server's log.
        height, width = like.image_size
        raise DataError(
            f"{name}: its images have several sizes, the federation's are {height}x{width}: set "
            f"image-size={min(like.image_size)} for the run ({error.what})"
        ) from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if split == "train":
        data.require_some(name)
    return data


def _check_fit(own: Description, like: Description, name: str) -> None:
    if own.image_size != like.image_size:
        raise DataError(
            f"images are {own.image_size[0]}x{own.image_size[1]} pixels, the federation's are "
            f"{like.image_size[0]}x{like.image_size[1]} (height x width): resize them, or set "
            f"image-size={min(like.image_size)} for the run"
        )
    if own.channels != like.channels:
        kinds = {1: "grey", 3: "RGB"}
        warn_once(
            f"{name}: {kinds[own.channels]} images are used as {kinds[like.channels]}, like the "
            f"rest of the federation's"
        )
