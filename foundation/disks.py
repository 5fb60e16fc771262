"""What a disk that cannot be written to says, in words."""

from __future__ import annotations

import errno
import os
import re

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_BROKEN = (errno.EIO, errno.EFBIG, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE)

# Libraries that are written in Rust, such as safetensors, have error types of their own.
_IN_TEXT = re.compile(r"\(os error (\d+)\)")


def disk_problem(error: BaseException) -> str:
    """Say what is wrong with a disk: ``"/data/run: No space left on device"``, or nothing.

    Files that are not there, or are of another kind, are no problem of a disk.
    """
    number, place = _number(error), getattr(error, "filename", None)
    if number not in (*_FULL, *_CLOSED, *_BROKEN):
        return ""
    words = os.strerror(number)
    # A file that is written aside has a name that says nothing to a user; its folder does.
    return f"{os.path.dirname(os.fsdecode(place)) or '.'}: {words}" if place else words


def is_full(error: BaseException) -> bool:
    """Tell whether an error says that a disk, or a user's share of it, is full."""
    return _number(error) in _FULL


def _number(error: BaseException) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    found = _IN_TEXT.search(str(error))
    return int(found[1]) if found else 0
