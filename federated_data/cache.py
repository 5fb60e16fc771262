"""Derived data on disk, made once by one process and shared by all processes of a machine.

An entry is a directory of files. It is made in a temporary directory under a lock and then
renamed, so an entry that exists is complete; readers take no lock. Arrays are opened
memory-mapped, which lets the processes of a machine share their pages.
"""

import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation import whole_folder

from .errors import DataError, warn_once

logger = logging.getLogger("flwr.fedf2dg.data")

# Part of every key: raise it when the files in an entry change their meaning.
_FORMAT = 1
# A user who waits longer than this for another process wants to know what for.
_QUIET_WAIT_SECONDS = 5.0


def cache_directory() -> Path:
    """Directory of the cache: ``$FEDF2DG_CACHE``, else ``~/.cache/fedf2dg``."""
    configured = os.environ.get("FEDF2DG_CACHE", "")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "fedf2dg"


def entry(name: str, identity: str, make: Callable[[Path], None], *, private: bool = False) -> Path:
    """Return the directory of an entry, making it first if nobody has.

    When several processes ask at once, exactly one makes the entry and the others wait. A
    process that dies while making one leaves no entry and no lock behind.

    Parameters
    ----------
    name : str
        What the entry is, readable, for its directory's name.
    identity : str
        What the content depends on: another identity is another entry.
    make : callable
        Writes the entry's files into the empty directory it is given.
    private : bool (default: False)
        Whether only the user whose process made the entry may read it; another user, in a cache
        they share, makes one of their own.

    Returns
    -------
    Path
        The entry. When the cache directory cannot be written, a temporary one that lasts as long
        as this process (with a warning).
    """
    if private and hasattr(os, "getuid"):
        identity += f"\nof user {os.getuid()}"
    digest = hashlib.sha256(f"{_FORMAT}\n{name}\n{identity}".encode()).hexdigest()[:16]
    directory = cache_directory()
    place = directory / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{digest}"
    if place.is_dir():
        return place
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = _acquire(directory / f"{place.name}.lock", name)
    except OSError as error:
        warn_once(
            f"the cache {directory} cannot be written ({error.strerror}); every process prepares "
            f"its data anew. Set FEDF2DG_CACHE to a writable directory"
        )
        place = _private_directory() / place.name
        if not place.is_dir():
            place.mkdir()
            make(place)
        return place
    try:
        if not place.is_dir():
            _make(place, make, private)
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
            logger.warning("the cache entry %s is damaged (%s) and is made again", place, error)
            shutil.rmtree(place, ignore_errors=True)
    raise AssertionError("unreachable")


def _acquire(path: Path, name: str) -> Any:
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=_QUIET_WAIT_SECONDS)
    except Timeout:
        logger.info("another process is preparing '%s'; waiting for it", name)
        lock.acquire()
    return lock


def _make(place: Path, make: Callable[[Path], None], private: bool) -> None:
    with whole_folder(place, private=private) as folder:
        make(folder)


@cache
def _private_directory() -> Path:
    # The handle must outlive every array opened below it, so it hangs on the function.
    handle = tempfile.TemporaryDirectory(prefix="fedf2dg-")
    _HANDLES.append(handle)
    return Path(handle.name)


_HANDLES: list[tempfile.TemporaryDirectory[str]] = []
