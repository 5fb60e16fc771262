"""What lies in a folder: its images, and by reason what was left out."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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

    def _example(self, reason: str, directory: Path) -> Path:
        path = self.examples[reason]
        return path.relative_to(directory) if path.is_relative_to(directory) else path


def is_system_folder(name: str) -> bool:
    """Tell whether a folder is hidden, or made by a system and not by its owner."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def folders_in(directory: Path) -> list[Path]:
    """Return the folders of one's own in a directory, sorted; links to folders count."""
    return sorted(
        child
        for child in directory.iterdir()
        if child.is_dir() and not is_system_folder(child.name)
    )


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
    for parent, folders, files in os.walk(directory, followlinks=True):
        here = Path(parent)
        if here.resolve() in been:
            folders.clear()
            left_out.add("folders that a link leads to again", here)
            continue
        been.add(here.resolve())
        for name in [name for name in folders if is_system_folder(name)]:
            left_out.add("folders that are hidden or a system's", here / name)
        folders[:] = sorted(name for name in folders if not is_system_folder(name))
        for name in sorted(files):
            path = here / name
            if not path.exists():
                left_out.add("links that lead nowhere", path)
            elif name.startswith(".") or name.lower() in _SYSTEM_FILES:
                left_out.add("files that are hidden or a system's", path)
            elif not name.lower().endswith(SUFFIXES):
                kind = path.suffix.lower()
                left_out.add(f"{kind} files" if kind else "files without a suffix", path)
            else:
                yield path, path.stat()


def has_images(directory: Path) -> bool:
    """Tell whether images lie in a folder itself."""
    return any(
        path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
        for path in directory.iterdir()
    )


def file_identity(path: Path, status: os.stat_result) -> str:
    """Name a file's content: another one at its place has another name, even of equal size and age.

    Copying tools set a file's size and time of modification as they like; its number (inode) and
    the time of its last change (ctime) are the file system's.
    """
    return (
        f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} "
        f"{status.st_ino}"
    )
