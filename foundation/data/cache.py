"""Derived data on disk, made once by one process and shared by all processes of a machine.

An entry is a directory of files. It is made aside under a lock and then renamed, so an entry that
exists is complete; readers take no lock. Memory-mapped arrays share their pages.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation import whole_folder
from foundation.errors import DataError, data_log, warn_once
from foundation.files import disk_problem, is_full

# Part of every key: raise it when the files in an entry change their meaning.
_FORMAT = 2
# A user who waits longer than this for another process wants to know what for.
_QUIET_WAIT_SECONDS = 5.0
_MOST_FEATURES = 4 * 2**30


def cache_directory() -> Path:
    """Directory of the cache: ``$FEDF2DG_CACHE``, else ``~/.cache/fedf2dg``, else an OSError."""
    configured = os.environ.get("FEDF2DG_CACHE", "")
    try:
        return Path(configured or "~/.cache/fedf2dg").expanduser()
    except RuntimeError as error:
        raise OSError(errno.ENOENT, "this user has no home directory") from error


def own_secret() -> bytes:
    """Return what only this user's processes on this machine know; empty if it cannot be kept."""

    def make(directory: Path) -> None:
        (directory / "secret").write_bytes(secrets.token_bytes(32))

    try:
        if not os.access(cache_directory(), os.W_OK):
            return b""
        return (entry("secret", "", make, private=True) / "secret").read_bytes()
    except OSError:
        return b""


def entry(name: str, identity: str, make: Callable[[Path], None], *, private: bool = False) -> Path:
    """Return the directory of an entry, making it first if nobody has.

    Another identity is another entry. A private one can be read by the user alone whose process
    made it; another user makes one of his own.

    When several processes ask at once, one makes the entry and the others wait. One that dies while
    making it leaves no entry and no lock behind. When the cache directory cannot be written, the
    entry lasts as long as this process (with a warning).
    """
    if private and hasattr(os, "getuid"):
        identity += f"\nof user {os.getuid()}"
    content = f"{_FORMAT}\n{name}\n{identity}".encode(errors="surrogateescape")
    digest = hashlib.sha256(content).hexdigest()[:16]
    file_name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{digest}"
    try:
        directory = cache_directory()
        place = directory / file_name
        if place.is_dir():
            return place
        directory.mkdir(parents=True, exist_ok=True)
        lock = _acquire(directory / f"{file_name}.lock", name)
    except OSError as error:
        warn_once(
            f"the cache of decoded images cannot be written ({error.strerror}); every process "
            f"prepares its data anew. Set FEDF2DG_CACHE to a writable directory"
        )
        place = Path(_private_directory().name) / file_name
        if not place.is_dir():
            place.mkdir()
            make(place)
        return place
    try:
        if not place.is_dir():
            with whole_folder(place, private=private) as folder:
                make(folder)
    except OSError as error:
        if problem := disk_problem(error):
            raise DataError(
                f"the cache of decoded images in {problem}. Free some space, or set FEDF2DG_CACHE "
                "to a directory with more"
            ) from error
        raise
    finally:
        lock.release()
    return place


def open_arrays(
    name: str,
    identity: str,
    make: Callable[[Path], None],
    arrays: tuple[str, ...],
    *,
    private: bool = False,
) -> list[npt.NDArray[Any]]:
    """Open arrays of an entry, memory-mapped and read-only, making the entry if needed.

    An entry with an unreadable file (a full disk, a power cut) is made again, once.
    """
    for attempt in range(2):
        place = entry(name, identity, make, private=private)
        try:
            # A plain view: memmap's own class would follow every slice and result around.
            return [
                np.load(place / f"{array}.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
                for array in arrays
            ]
        except (OSError, ValueError, EOFError) as error:
            if attempt:
                raise DataError(
                    f"the cache entry {place} cannot be read ({error}): delete it"
                ) from error
            data_log.warning("the cache entry %s is damaged (%s) and is made again", place, error)
            shutil.rmtree(place, ignore_errors=True)
    raise AssertionError("unreachable")


def stored_features(
    identity: str, compute: Callable[[], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Return the features of a client's images, computed if no process of this user has done so.

    Those computed longest ago are deleted where all take more than 4 GB.
    """
    name = "features"

    def make(folder: Path) -> None:
        np.save(folder / f"{name}.npy", compute())
        entries = sorted(folder.parent.glob(f"{name}-*/{name}.npy"), key=os.path.getmtime)
        excess = sum(map(os.path.getsize, entries)) - _MOST_FEATURES
        for entry in entries:
            if excess <= 0:
                break
            excess -= os.path.getsize(entry)
            shutil.rmtree(entry.parent, ignore_errors=True)

    (features,) = open_arrays(name, identity, make, (name,), private=True)
    return features


def new_array(path: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """Create a memory-mapped array of bytes in an entry that is being made.

    Its space is reserved at once, an OSError where there is too little: a disk that fills up later
    would kill a process that writes to mapped memory, without a word.
    """
    array: np.memmap[Any, np.dtype[np.uint8]] = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=shape
    )
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:  # some file systems cannot reserve
                if is_full(error):
                    raise
    return array


def _acquire(path: Path, name: str) -> Any:
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=_QUIET_WAIT_SECONDS)
    except Timeout:
        data_log.info("another process is preparing '%s'; waiting for it", name)
        lock.acquire()
    return lock


@cache  # which keeps the directory as long as the process: arrays are opened below it
def _private_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fedf2dg-")
