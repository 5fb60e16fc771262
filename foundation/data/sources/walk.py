"""What lies in a folder: its images, and by reason what was left out."""

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from foundation.errors import warn_once

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

# Folders that operating systems, network drives and archivers put beside people's own.
_SYSTEM_FOLDERS = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "lost+found",
        "system volume information",
    }
)
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
_SYSTEM = "folders that are hidden or a system's"


@dataclass
class LeftOut:
    """Files and folders that are not read, by reason, with an example of each reason."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, Path] = field(default_factory=dict)

    def add(self, reason: str, path: Path) -> None:
        """Count one more."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.examples.setdefault(reason, path)

    def merge(self, other: "LeftOut") -> None:
        """Count what another one has counted as well."""
        for reason, count in other.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            self.examples.setdefault(reason, other.examples[reason])

    def sentence(self, directory: Path) -> str:
        """Say what is left out; empty if nothing is."""
        said = [
            f"{reason}: {count} ({self._example(reason, directory)}{', …' if count > 1 else ''})"
            for reason, count in sorted(self.counts.items())
        ]
        return f"not read in {directory}: {'; '.join(said)}" if said else ""

    def warn(self, directory: Path) -> None:
        """Say it in a warning."""
        if self.counts:
            warn_once(self.sentence(directory))

    def _example(self, reason: str, directory: Path) -> Path:
        path = self.examples[reason]
        return path.relative_to(directory) if path.is_relative_to(directory) else path


def is_system_folder(name: str) -> bool:
    """Tell whether a folder is hidden, or made by a system and not by its owner."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def folders_in(
    directory: Path, left_out: LeftOut | None = None, *, read: Container[Path] = ()
) -> list[Path]:
    """Return the folders of one's own in a directory, sorted; links to folders count.

    Parameters
    ----------
    directory : Path
        Where to look, not in its depths.
    left_out : LeftOut or None (default: None)
        Receives what else is there.
    read : container of Path (default: none)
        Files that are read all the same, and not counted.
    """
    found = []
    for child in sorted(directory.iterdir()):
        if child.is_dir() and not is_system_folder(child.name):
            found.append(child)
        elif left_out is not None and child.is_dir():
            left_out.add(_SYSTEM, child)
        elif left_out is not None and child not in read:
            left_out.add(_why_not_read(child) or "images outside the folders", child)
    return found


def images_below(directory: Path, left_out: LeftOut) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every image file below a directory with its status, in a stable order.

    Links to files and to folders are followed, each folder once: a link may lead upwards.

    Parameters
    ----------
    directory : Path
        Where to look, in all depths.
    left_out : LeftOut
        Receives what is passed over.
    """
    been: set[Path] = set()
    for parent, folders, files in os.walk(directory, onerror=_refuse, followlinks=True):
        here = Path(parent)
        if here.resolve() in been:
            folders.clear()
            left_out.add("folders that a link leads to again", here)
            continue
        been.add(here.resolve())
        for name in [name for name in folders if is_system_folder(name)]:
            left_out.add(_SYSTEM, here / name)
        folders[:] = sorted(name for name in folders if not is_system_folder(name))
        for name in sorted(files):
            path = here / name
            if reason := _why_not_read(path):
                left_out.add(reason, path)
            else:
                yield path, path.stat()


def _refuse(error: OSError) -> None:
    raise error  # a folder that may not be read is not taken for an empty one


def _why_not_read(path: Path) -> str:
    """Say why a file is passed over; empty for an image."""
    if not path.exists():
        return "links that lead nowhere"
    if path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES:
        return "files that are hidden or a system's"
    if path.name.lower().endswith(SUFFIXES):
        return ""
    kind = path.suffix.lower()
    return f"{kind} files" if kind else "files without a suffix"


def has_images(directory: Path) -> bool:
    """Tell whether images lie in a folder itself."""
    return any(path.is_file() and not _why_not_read(path) for path in directory.iterdir())


def file_identity(path: Path, status: os.stat_result) -> str:
    """Name a file's content: another one at its place has another name, even of equal size and age.

    Copying tools set a file's size and time of modification as they like; its number (inode) and
    the time of its last change (ctime) are the file system's.
    """
    return (
        f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} "
        f"{status.st_ino}"
    )
