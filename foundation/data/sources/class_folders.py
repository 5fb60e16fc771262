"""Images as files, one folder per class."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.errors import DataError
from foundation.wording import listed

from ..collection import SPLIT_NAMES, Collection
from ..decoding import Records
from ..names import composed, look_alike, refuse_look_alikes, shown
from .walk import SUFFIXES, LeftOut, file_identity, folders_in, has_images, images_below

_SPLIT_WORDS = frozenset(name for names in SPLIT_NAMES.values() for name in names)


@dataclass(frozen=True)
class _Entry:
    path: Path
    class_name: str
    identity: str


_NAMED_LIKE_A_SPLIT = " (a class that is called train or test needs class-names=NAME,NAME)"


class UnknownClass(DataError):
    """A folder is none of the classes; ``problem`` says so without what a run could do about it."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}: move it elsewhere, or name it in class-names")
        self.problem = problem


def class_folders(name: str, directory: Path, class_names: Sequence[str] = ()) -> Collection:
    """Read ``train/<class>/*.png`` and ``test/<class>/*.png``, or ``<class>/*.png``.

    The usual names of splits are known in any case. Without such a folder, a fixed share of every
    class may be held out for testing. A class's images may lie in folders below it, or behind
    links. What is left out is counted by reason in a warning. The classes are `class_names` in
    their order, so that sites that miss some agree on the numbers; else the folders' names, sorted.

    No such directory, no class folders, one that `class_names` does not know, two that a reader
    takes for one, and a class without a file that is read are a DataError.
    """
    if not directory.is_dir():
        raise DataError(f"{shown(directory)} is not a directory")
    left_out = LeftOut()
    split_folders = splits_in(directory, class_names)
    classes_in = {root: folders_in(root, left_out) for root in (directory, *split_folders.values())}
    if split_folders:
        beside = " and ".join(path.name for path in split_folders.values())
        for child in classes_in.pop(directory):
            if child not in split_folders.values():
                left_out.add(f"folders beside {beside}", child)
    found = [(composed(each.name), each) for folders in classes_in.values() for each in folders]
    found_names = sorted({class_name for class_name, _ in found})
    names = tuple(composed(name) for name in class_names) or tuple(found_names)
    for class_name, place in found:
        if class_name not in names:
            raise _unknown_class(class_name, place, names)
    if not class_names:
        refuse_look_alikes((class_name, shown(place)) for class_name, place in found)
        refuse_names_of_splits(directory, found_names)
    if not found_names and has_images(directory):
        raise DataError(
            f"{shown(directory)} holds images itself, and no class folders: did you mean its "
            f"parent, {shown(directory.absolute().parent)}?"
        )
    if not found_names:
        raise DataError(
            f"{shown(directory)} holds no class folders: expected train/<class>/*.png and "
            "test/<class>/*.png, or <class>/*.png" + ("" if class_names else _NAMED_LIKE_A_SPLIT)
        )
    entries = {split: _entries(root, left_out) for split, root in split_folders.items()}
    entries = entries or {"train": _entries(directory, left_out)}
    if not any(entries.values()):
        raise DataError(f"{shown(directory)} holds no image ({', '.join(SUFFIXES)})")
    left_out.warn(directory)
    identity = "\n".join(
        f"{split} {entry.identity}" for split, files in entries.items() for entry in files
    )
    return Collection(
        name=name,
        identity=identity + "\n" + "\n".join(names),
        class_names=names,
        splits=tuple(split for split, files in entries.items() if files),
        records=lambda split: _records(entries[split], names),
        announced=tuple(found_names),
        spare=() if split_folders else (True,),
    )


def _unknown_class(class_name: str, place: Path, names: tuple[str, ...]) -> DataError:
    problem = (
        f"{shown(place.parent)} has the class folder '{class_name}', which is not one of the "
        f"classes {listed(names)}"
    )
    alike = [name for name in names if look_alike(name) == look_alike(class_name)]
    if alike:
        return DataError(f"{problem}: if it is '{alike[0]}', call it so")
    below = {composed(each.name) for each in (*folders_in(place), *splits_in(place).values())}
    if below.intersection(names) or splits_in(place):
        return DataError(
            f"{problem}; it holds folders of classes itself, so {shown(place.parent)} is one "
            f"folder above the data: did you mean {shown(place)}?"
        )
    return UnknownClass(problem)


def splits_in(directory: Path, class_names: Sequence[str] = ()) -> dict[str, Path]:
    """Return the folders for training and testing in a directory, by what they are for.

    A folder whose name is one of `class_names` is a class: "train" may be a vehicle.
    """
    by_name: dict[str, Path] = {}
    for child in folders_in(directory):
        if composed(child.name) not in class_names:
            other = by_name.setdefault(child.name.lower(), child)
            if other != child and child.name.lower() in _SPLIT_WORDS:
                raise DataError(
                    f"{shown(directory)} holds both {other.name} and {child.name}: move what is "
                    "not meant elsewhere"
                )
    return {
        split: next(by_name[usual] for usual in usuals if usual in by_name)
        for split, usuals in SPLIT_NAMES.items()
        if any(usual in by_name for usual in usuals)
    }


def refuse_names_of_splits(directory: Path, names: Iterable[str]) -> None:
    """Refuse folders that a split seems to be in, such as train_images, as classes or sites."""
    for name in names:
        words = re.split(r"[\W_\d]+", name.lower())
        for word in _SPLIT_WORDS.intersection((words[0], words[-1])):
            raise DataError(
                f"{shown(directory)} holds the folder '{name}', which seems to be for {word}, not "
                f"a class: call it {word}, or name the classes with class-names=NAME,NAME"
            )


def refuse_a_single_class(source: Collection, directory: Path) -> None:
    """Refuse a data set of one class: nothing can be learned, and another folder was meant."""
    present = np.unique(np.concatenate([source.records(s).labels for s in source.splits]))
    if len(present) > 1:
        return
    only = source.class_names[present[0]]
    advice = "needs two classes or more"
    roots = (directory, *splits_in(directory).values())
    for meant in (folder for root in roots for folder in folders_in(root)):
        if composed(meant.name) == only and not has_images(meant) and folders_in(meant):
            advice = f"is one folder above the data: did you mean data-dir={shown(meant)}?"
    raise DataError(f"{shown(directory)} holds images of the single class '{only}': it {advice}")


def _records(entries: Sequence[_Entry], names: tuple[str, ...]) -> Records:
    positions = {name: position for position, name in enumerate(names)}
    return Records(
        images=lambda: (entry.path for entry in entries),
        labels=np.array([positions[entry.class_name] for entry in entries], dtype=np.int64),
        where=lambda index: shown(entries[index].path),
    )


def _entries(root: Path, left_out: LeftOut) -> list[_Entry]:
    entries = []
    for class_folder in folders_in(root):
        passed = LeftOut()
        found = [
            _Entry(path, composed(class_folder.name), file_identity(path, status))
            for path, status in images_below(class_folder, passed)
        ]
        kinds = {kind: len(each) for kind, each in passed.paths.items() if kind.startswith(".")}
        if kinds and not found:
            others = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
            raise DataError(
                f"{shown(class_folder)} holds no image of a kind that is read "
                f"({', '.join(SUFFIXES)}), but {others}: convert them, or if the folder is no "
                "class, move it elsewhere"
            )
        entries += found
        for reason, paths in passed.paths.items():
            left_out.add(reason, *paths)
    return entries
