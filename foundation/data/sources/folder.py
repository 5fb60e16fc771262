"""A user's own folder: class folders, or sites, each of which is one client; and a site's files.

A site's data lies there as it would on that client's machine:
``sites/clinic-a/<class>/*.png``, ``sites/clinic-b/train/<class>/*.png`` and
``sites/clinic-c.parquet`` each become one simulated client. A child that only has test images is
nobody's: it is the test set of the server.
"""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foundation.errors import DataError, warn_once
from foundation.wording import listed

from ..agreement import Description
from ..collection import SPLIT_NAMES, Collection, Source
from ..decoding import Records, SizesDiffer
from ..images import ImageData
from ..names import composed, in_order, refuse_look_alikes, shown
from ..partitions import HELD_OUT_FROM, split_by_content
from .class_folders import class_folders, refuse_a_single_class, refuse_names_of_splits, splits_in
from .parquet import directory_of, find_files, parquet, parquet_files, splits_beside, warn_of_others
from .walk import LeftOut, folders_in, has_images, holds_runs

_NEARLY_EQUAL = 0.8  # as difflib counts: one letter of "horse" that is wrong, doubled or missing


def _open(data_dir: str, class_names: tuple[str, ...]) -> Collection:
    directory = directory_of("folder", data_dir)
    if holds_runs(directory):
        raise DataError(f"{shown(directory)} holds runs, not images: name another data-dir")
    if holds_sites(directory, class_names):
        return sites("folder", directory, class_names)
    collection = class_folders("folder", directory, class_names)
    refuse_a_single_class(collection, directory)
    if not class_names and (meant := folder_of_sites(data_dir)):
        warn_once(
            f"{shown(meant)} is taken for a class, and holds the same folders several times: if "
            f"these are sites, say data-dir={shown(meant)}"
        )
    return collection


def holds_sites(directory: Path, class_names: Sequence[str] = ()) -> bool:
    """Tell whether the folders in a directory are sites rather than classes.

    A class's folder may hold folders too. Folders are sites if no image lies directly in any of
    them, and there is a sign that what lies below are classes: a site has folders for training or
    testing, the same name occurs in several of them, or a parquet file lies beside them. Given
    `class_names` decide where they occur; without, some like sites beside some with images are a
    DataError.
    """
    children, known = folders_in(directory), {composed(name) for name in class_names}
    if splits_in(directory, tuple(known)) or splits_beside(directory, SPLIT_NAMES):
        return False
    if any(composed(child.name) in known for child in children):
        return False
    if loose := [child for child in children if has_images(child)]:
        if not known:
            _refuse_images_beside_sites(directory, children, loose)
        return False
    tables = parquet_files(directory)
    if tables and (children or len(tables) > 1):
        return True
    if any(
        splits_beside(child, SPLIT_NAMES) or any(map(folders_in, splits_in(child).values()))
        for child in children
    ):
        return True
    names = Counter(composed(below.name) for child in children for below in folders_in(child))
    return any(count > 1 for count in names.values()) or not known.isdisjoint(names)


def folder_of_sites(data_dir: str) -> Path | None:
    """Return the folder in a directory that holds sites, if the directory is one too high."""
    below = folders_in(Path(data_dir).expanduser())
    return next((place for place in below if holds_sites(place)), None)


def _refuse_images_beside_sites(
    directory: Path, children: Sequence[Path], loose: Sequence[Path]
) -> None:
    """Refuse them: one such folder must not make classes of all sites in silence."""
    below = {
        child: {
            composed(each.name)
            for root in (splits_in(child).values() or (child,))
            for each in folders_in(root)
            if has_images(each)
        }
        for child in children
    }
    counts = Counter(name for own in below.values() for name in own)
    shared = [
        name
        for name, count in counts.items()
        if count > 1 and any(name in own for child, own in below.items() if child not in loose)
    ]
    if shared:
        sites_here = [
            child.name
            for child, own in below.items()
            if child not in loose and own.intersection(shared)
        ]
        raise DataError(
            f"{shown(directory)} holds folders that look like sites, with class folders in them "
            f"({listed(sites_here)}: {listed(in_order(shared))}), and others that hold images "
            f"themselves ({listed([path.name for path in loose])}): move these elsewhere, or if "
            "all of them are classes, name them with class-names=NAME,NAME"
        )


def sites(name: str, directory: Path, class_names: Sequence[str] = ()) -> Collection:
    """Read a folder of sites as one data set that knows which row is whose.

    The classes are `class_names`, else those of the server's test images, which the sites must keep
    to, as on real clients; without such images all that any site has, sorted. The training split is
    that of all sites, one after the other in the order of their names; the test split the server's
    images, else those of the sites that have some. A DataError names the site that it is about.
    """
    left_out, tables = LeftOut(), parquet_files(directory)
    places = sorted([*folders_in(directory, left_out, read=tables), *tables])
    left_out.warn(directory)
    if len(places) == 1:
        raise DataError(
            f"{shown(directory)} is one folder above the data: did you mean "
            f"data-dir={shown(places[0])}?"
        )
    if not class_names:
        refuse_names_of_splits(directory, [place.stem for place in places])
    names = {place: composed(place.stem if place.is_file() else place.name) for place in places}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise DataError(f"{shown(directory)} holds two sites called '{twice[0]}': rename one")
    read = {place: _opened(place, ()) for place in places}
    common = [place for place, source in read.items() if source.splits == ("test",)]
    training = [place for place in places if place not in common]
    if len(common) > 1:
        raise DataError(
            f"{shown(directory)}: only one folder may hold nothing but test images: "
            f"{listed([names[place] for place in common])}"
        )
    if not training:
        raise DataError(f"{shown(directory)}: no site has training images")
    known = tuple(composed(name) for name in class_names)
    if not known and common:
        known = read[common[0]].class_names
    elif not known:
        found = [(name, place) for place in training for name in read[place].class_names]
        refuse_look_alikes((name, f"site {shown(place.name)}") for name, place in found)
        known = in_order(name for name, _ in found)
        _warn_of_misspelt_classes(
            {names[place]: set(read[place].class_names) for place in training}
        )
    opened = {place: _opened(place, known) for place in places}
    tested = common or [place for place in training if "test" in opened[place].splits]
    parts = {
        "train": [opened[place].records("train") for place in training],
        "test": [opened[place].records("test") for place in tested],
    }
    return Collection(
        name=name,
        identity="\n".join(f"site {names[place]}\n{opened[place].identity}" for place in places),
        class_names=known,
        splits=tuple(split for split, records in parts.items() if records),
        records=lambda split: Records.joined(parts[split]),
        announced=tuple(
            each for each in known if any(each in opened[place].announced for place in training)
        ),
        sites=tuple(names[place] for place in training),
        site_sizes=tuple(len(records.labels) for records in parts["train"]),
        test_sites=tuple(
            -1 if common else training.index(place)
            for place, records in zip(tested, parts["test"], strict=True)
            for _ in records.labels
        ),
        spare=tuple(not common and any(opened[place].spare) for place in training),
    )


def _opened(place: Path, class_names: tuple[str, ...]) -> Collection:
    try:
        return own_files(place, class_names)
    except DataError as error:
        raise DataError(f"site {shown(place.name)}: {error}") from error


def _warn_of_misspelt_classes(classes: dict[str, set[str]]) -> None:
    """Warn of a class that one site alone has, and that is nearly called like one of the others'.

    Who has both "ant" and "aunt" means both; names that differ in their digits are numbered.
    """
    holders = Counter(name for own in classes.values() for name in own)
    for site, own in classes.items():
        for name in in_order(name for name in own if holders[name] == 1):
            missing = [
                other
                for other in holders
                if other not in own and (holders[other], name) > (1, other)  # of a pair, once
            ]
            close = difflib.get_close_matches(name, missing, n=1, cutoff=_NEARLY_EQUAL)
            swapped = [other for other in missing if sorted(other) == sorted(name)]
            for other in (close or swapped)[:1]:
                if re.sub(r"\D", "", name) == re.sub(r"\D", "", other):
                    warn_once(
                        f"site {site} alone has the class '{name}', and lacks '{other}', which "
                        "others have: if both are one class, give it one name"
                    )


source = Source("folder", _open, own=True)


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
