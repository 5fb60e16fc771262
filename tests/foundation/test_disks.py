"""Errors of a disk are told from others, whatever type a library gives them."""

from __future__ import annotations

import errno
import os

import pytest

from foundation.disks import disk_problem, is_full


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_to(number: int) -> None:
    error = OSError(number, os.strerror(number), "/data/run/.summary.json.partial")
    assert disk_problem(error) == f"/data/run: {os.strerror(number)}"
    assert disk_problem(OSError(number, "")) == os.strerror(number)
    assert is_full(error) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_a_file_in_the_present_folder() -> None:
    error = OSError(errno.ENOSPC, "", "model")
    assert disk_problem(error) == f".: {os.strerror(errno.ENOSPC)}"


def test_an_error_type_of_its_own() -> None:
    class SafetensorError(Exception):
        pass

    error = SafetensorError("Error while serializing: No space left on device (os error 28)")
    assert is_full(error) and disk_problem(error) == os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "", "x"),
        BrokenPipeError(errno.EPIPE, ""),
        ValueError("No space"),
    ],
)
def test_other_errors_are_no_disks(error: Exception) -> None:
    assert disk_problem(error) == "" and not is_full(error)
