"""A run whose disk is full or closed ends with what is saved, and how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation import ExpectedError
from foundation.disks import disk_problem, is_full


class DiskError(ExpectedError, OSError):
    """A run's directory cannot be written to; the message says how to go on."""


@contextmanager
def disk_errors_explained(directory: Path) -> Iterator[None]:
    """Turn errors of the disk into a sentence on what is saved of a run, and how to go on.

    Parameters
    ----------
    directory : Path
        The run's directory.

    Raises
    ------
    DiskError
        In place of an error of the disk; all others pass.
    """
    try:
        yield
    except ExpectedError:
        raise
    except Exception as error:
        if problem := disk_problem(error):
            raise DiskError(f"{problem}. {_saved(directory, is_full(error))}") from error
        raise


def _saved(directory: Path, full: bool) -> str:
    steps = sorted(path.name[5:] for path in directory.glob("checkpoints/[0-9]*"))
    remedy = "Free some space" if full else "Make it writable"
    if not (directory / "config.json").is_file():
        return f"Nothing of the run is saved. {remedy}, and start it again"
    saved = f"The run is saved up to step {steps[-1]}" if steps else "No step of the run is saved"
    elsewhere = "" if full else ", or with output-dir=ANOTHER beside it"
    return f"{saved}. {remedy}, then go on with resume-from={directory}{elsewhere}"
