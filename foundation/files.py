"""Files and folders that are there whole or not at all.

Content is written aside, made durable, and renamed over its place. Whoever reads sees the old
content or the new one, also after a killed process or a power cut.
"""

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED = ".partial"
#: Where a site keeps what is its own, in the folder of its images.
OWN_FOLDER = ".fedf2dg"

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (
    *(*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.EFBIG, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE),
)
# Libraries that are written in Rust, such as safetensors, have error types of their own.
_IN_TEXT = re.compile(r"\(os error (\d+)\)")


def write_whole(target: Path, content: str | bytes, *, rivals: bool = False) -> None:
    """Write a file, whole or not at all; text as UTF-8. See :func:`whole_file`."""
    with whole_file(target, rivals=rivals) as aside:
        aside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def whole_file(target: Path, *, rivals: bool = False) -> Iterator[Path]:
    """Offer a file to write to, which takes its place when the block ends without an error.

    The permissions are those that the umask leaves: libraries that write through a temporary file
    of their own make it unreadable for the group. With ``rivals`` others may write the same file at
    the same time; the last one wins, and what a killed process leaves is not written over.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(target, f"{os.getpid()}-{threading.get_ident()}." if rivals else "")
    aside.unlink(missing_ok=True)  # left by a process that was killed
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    mode = os.fstat(descriptor).st_mode
    os.close(descriptor)
    try:
        yield aside
        aside.chmod(mode & 0o777)
        _sync(aside)
        aside.replace(target)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        _name(target, error)
        raise
    _sync_folder(target.parent)


@contextmanager
def whole_folder(target: Path, *, private: bool = False, replace: bool = False) -> Iterator[Path]:
    """Offer a folder to fill, which takes its place when the block ends without an error.

    What is there is to be nothing, an empty folder, or what it is to ``replace``. Nobody but the
    user may look into a ``private`` one; otherwise the umask says who may.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside, before = _aside(target), _aside(target, "before.")
    _put_back(before, target)  # a process was killed between the two renames
    for left in (aside, before):
        if left.exists():  # left by a process that was killed
            shutil.rmtree(left)
    aside.mkdir(mode=0o700 if private else 0o777)
    mode = aside.stat().st_mode & 0o777
    try:
        yield aside
        for path in sorted(aside.rglob("*")):
            path.chmod(mode if path.is_dir() else mode & 0o666)
            if path.is_file():
                _sync(path)
        if replace and target.exists():
            target.rename(before)
        aside.replace(target)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        _put_back(before, target)
        _name(target, error)
        raise
    if replace and before.exists():
        with suppress(OSError):  # the new folder is in its place, whatever becomes of the old one
            shutil.rmtree(before)
    _sync_folder(target.parent)


def _put_back(before: Path, target: Path) -> None:
    if before.exists() and not target.exists():
        before.rename(target)


def clear_unfinished(folder: Path) -> None:
    """Delete what a killed process left in a folder; only who alone writes there may do so."""
    for left in folder.glob(f".*{_UNFINISHED}"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _aside(target: Path, writer: str = "") -> Path:
    return target.with_name(f".{target.name}.{writer}{_UNFINISHED[1:]}")


def _name(target: Path, error: BaseException) -> None:
    """Have an error of the disk say what could not be written, where the system did not."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(target)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:  # Windows does not flush a file that is open for reading
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def disk_problem(error: BaseException) -> str:
    """Say what is wrong with a disk: ``"/data/run: No space left on device"``, or nothing.

    Files that are not there, or are of another kind, are no problem of a disk.
    """
    number, place = _error_number(error), getattr(error, "filename", None)
    if number not in _UNWRITABLE:
        return ""
    words = os.strerror(number)
    # A file that is written aside has a name that says nothing to a user; its folder does.
    return f"{os.path.dirname(os.fsdecode(place)) or '.'}: {words}" if place else words


def is_full(error: BaseException) -> bool:
    """Tell whether an error says that a disk, or a user's share of it, is full."""
    return _error_number(error) in _FULL


def _error_number(error: BaseException) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    found = _IN_TEXT.search(str(error))
    return int(found[1]) if found else 0
