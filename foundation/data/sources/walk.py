"""What lies in a folder: its images, and by reason what was left out."""

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from foundation.errors import warn_once
from foundation.files import OWN_FOLDER

from ..names import shown

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
_RUNS = "folders that hold runs or models"

# Names in the folder of a run, a model, an evaluation or a comparison: with two of them it is no
# class.
_OF_A_RUN = frozenset(
    {
        *("config.json", "metrics.jsonl", "summary.json", "report.html", ".lock"),
        *("checkpoints", "pseudo_data", "model.safetensors"),
        *("model.pt", "model.onnx", "evaluation.html", "evaluation.json"),
        *("comparison.csv", "comparison.md", "comparison.html"),
    }
)

# So many files or folders of each kind that is not read are named.
_MOST_NAMED = 3


@dataclass
class LeftOut:
    """Files and folders that are not read, by reason."""

    paths: dict[str, list[Path]] = field(default_factory=dict)

    def add(self, reason: str, *paths: Path) -> None:
        """Note some more, but not what this program keeps there."""
        if kept := [path for path in paths if path.name != OWN_FOLDER]:
            self.paths.setdefault(reason, []).extend(kept)

    def sentence(self, directory: Path) -> str:
        """Say what is left out; empty if nothing is."""
        said = []
        for reason, paths in sorted(self.paths.items()):
            names = [
                shown(path.relative_to(directory) if path.is_relative_to(directory) else path)
                for path in paths[:_MOST_NAMED]
            ]
            more = ", …" if len(paths) > _MOST_NAMED else ""
            said.append(f"{reason}: {len(paths)} ({', '.join(names)}{more})")
        return f"not read in {shown(directory)}: {'; '.join(said)}" if said else ""

    def warn(self, directory: Path) -> None:
        """Say it in a warning."""
        if self.paths:
            warn_once(self.sentence(directory))


def _why_not_entered(folder: Path) -> str:
    if folder.name.startswith(".") or folder.name.lower() in _SYSTEM_FOLDERS:
        return _SYSTEM
    return _RUNS if holds_runs(folder) else ""


def holds_runs(folder: Path, depth: int = 4) -> bool:
    """Tell whether a folder is a run's, or holds runs and nothing else that could be a class."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith("._")]
    except OSError:
        return False  # said when it is read
    if len(_OF_A_RUN.intersection(entry.name for entry in entries)) > 1:
        return True
    if any(entry.name.lower().endswith(SUFFIXES) and entry.is_file() for entry in entries):
        return False
    children = [Path(entry.path) for entry in entries if entry.is_dir()]
    return depth > 0 and bool(children) and all(holds_runs(each, depth - 1) for each in children)


def folders_in(
    directory: Path, left_out: LeftOut | None = None, *, read: Container[Path] = ()
) -> list[Path]:
    """Return the folders of one's own in a directory, sorted; links to folders count.

    Folders that hold nothing but runs do not. `left_out` receives what else is there, but for the
    files in `read`.
    """
    found, left_out = [], left_out or LeftOut()
    for child in sorted(directory.iterdir()):
        if child.is_dir():
            if reason := _why_not_entered(child):
                left_out.add(reason, child)
            else:
                found.append(child)
        elif child not in read:
            left_out.add(_why_not_read(child) or "images outside the folders", child)
    return found


def images_below(directory: Path, left_out: LeftOut) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every image file below a directory with its status, in a stable order.

    Links to files and to folders are followed, each folder once: a link may lead upwards.
    """
    been: set[Path] = set()
    for parent, folders, files in os.walk(directory, onerror=_refuse, followlinks=True):
        here = Path(parent)
        if here.resolve() in been:
            folders.clear()
            left_out.add("folders that a link leads to again", here)
            continue
        been.add(here.resolve())
        reasons = {name: _why_not_entered(here / name) for name in sorted(folders)}
        for name, reason in reasons.items():
            if reason:
                left_out.add(reason, here / name)
        folders[:] = [name for name, reason in reasons.items() if not reason]
        for name in sorted(files):
            path = here / name
            if reason := _why_not_read(path):
                left_out.add(reason, path)
            else:
                yield path, path.stat()


def _refuse(error: OSError) -> None:
    raise error  # a folder that may not be read is not taken for an empty one


def _why_not_read(path: Path) -> str:
    if not path.is_file():
        return "neither files nor folders" if path.exists() else "links that lead nowhere"
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

    A file's number (inode) and the time of its last change (ctime) are the file system's; its size
    and time of modification copying tools set as they like.
    """
    return (
        f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} "
        f"{status.st_ino}"
    )
