"""Images as files, one folder per class."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..decoding import Encoded, Records
from ..errors import DataError
from ..stratification import stratified_split
from .base import SPLIT_NAMES, Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

_TEST_SHARE = 0.2
_SPLIT_SEED = 0


@dataclass(frozen=True)
class _Entry:
    path: Path
    class_name: str
    size: int
    modified: int


def folder(
    name: str,
    directory: Path,
    class_names: Sequence[str] = (),
    *,
    test_share: float = _TEST_SHARE,
) -> Source:
    """Read ``train/<class>/*.png`` and ``test/<class>/*.png``, or ``<class>/*.png``.

    Without a train or test folder, a fixed share of every class is held out for testing. A
    class's images may lie in folders below it; files that are not images are passed over.

    Parameters
    ----------
    name : str
        Name of the data set.
    directory : Path
        The folder that holds all.
    class_names : sequence of str (default: ())
        The federation's classes in order, so that sites that miss some agree on the numbers.
        Empty: the folders' names, sorted.
    test_share : float (default: 0.2)
        Share of each class held out when there is no test folder; 0: all images are for training.

    Raises
    ------
    DataError
        No such directory, no class folders, a class folder that `class_names` does not know, or
        no image at all.
    """
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory")
    split_folders: dict[str, Path] = {}
    for split, stems in SPLIT_NAMES.items():
        found = next((directory / stem for stem in stems if (directory / stem).is_dir()), None)
        if found:
            split_folders[split] = found
    roots = list(split_folders.values()) or [directory]
    found_names = sorted({child.name for root in roots for child in _class_folders(root)})
    names = tuple(class_names) or tuple(found_names)
    unknown = [found for found in found_names if found not in names]
    if unknown:
        raise DataError(
            f"{directory} has the class folder '{unknown[0]}', which is not one of the classes "
            f"{', '.join(names)}: rename or remove it"
        )
    if not found_names:
        raise DataError(
            f"{directory} holds no class folders: expected train/<class>/*.png and "
            f"test/<class>/*.png, or <class>/*.png"
        )
    entries = {split: _entries(root) for split, root in split_folders.items()}
    if not entries:
        entries = _hold_out(_entries(directory), names, test_share)
    if not any(entries.values()):
        raise DataError(f"{directory} holds no image ({', '.join(SUFFIXES)})")
    identity = "\n".join(
        f"{split} {entry.path.resolve()} {entry.size} {entry.modified}"
        for split, files in entries.items()
        for entry in files
    )
    return Source(
        name=name,
        identity=identity + "\n" + "\n".join(names),
        class_names=names,
        splits=tuple(split for split, files in entries.items() if files),
        records=lambda split: _records(entries[split], names),
        announced=tuple(found_names),
    )


def _records(entries: Sequence[_Entry], names: tuple[str, ...]) -> Records:
    positions = {name: position for position, name in enumerate(names)}

    def images() -> Iterator[Encoded]:
        return (entry.path for entry in entries)

    return Records(
        images=images,
        labels=np.array([positions[entry.class_name] for entry in entries], dtype=np.int64),
        where=lambda index: str(entries[index].path),
    )


def _class_folders(root: Path) -> list[Path]:
    return sorted(
        child for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")
    )


def _entries(root: Path) -> list[_Entry]:
    entries = []
    for class_folder in _class_folders(root):
        for parent, folders, files in os.walk(class_folder):
            folders.sort()
            for file in sorted(files):
                if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                    path = Path(parent) / file
                    status = path.stat()
                    entries.append(
                        _Entry(path, class_folder.name, status.st_size, status.st_mtime_ns)
                    )
    return entries


def _hold_out(
    entries: list[_Entry], names: tuple[str, ...], share: float
) -> dict[str, list[_Entry]]:
    if share == 0:
        return {"train": entries}
    labels = np.array([names.index(entry.class_name) for entry in entries], dtype=np.int64)
    train, test = stratified_split(labels, share, _SPLIT_SEED)
    return {"train": [entries[row] for row in train], "test": [entries[row] for row in test]}
