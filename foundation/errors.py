"""Errors that are expected: their message is all that a user needs, so no traceback is shown.

Every other exception is a defect of the program and keeps its traceback: where it must not end what
goes on, a warning names the file and the line, and the log holds the whole of it at debug level.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import ClassVar

log = logging.getLogger("flwr.fedf2dg")
data_log = log.getChild("data")


class ExpectedError(Exception):
    """Something that happens in correct programs, with a message that says what to do.

    A command that ends with it has the ``exit_status``: 1, it failed.
    """

    exit_status: ClassVar[int] = 1


class UsageError(ExpectedError):
    """What was asked for cannot be done; the exit status is 2, as argparse has it."""

    exit_status: ClassVar[int] = 2


class ConfigurationError(UsageError, ValueError):
    """A setting that cannot work; the message names the key, the value and the choices."""


class DataError(UsageError, ValueError):
    """Images or labels that cannot be used: the message names the place and what to do."""


class PartitionError(UsageError, ValueError):
    """A division of the data over clients that cannot be made: the reason and what to change."""


def location(error: BaseException) -> str:
    """Say where an error comes from, and what it is: its traceback's last file, line and words."""
    words = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {words}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename[0] != "<"]
    return f"{frames[-1].filename}, line {frames[-1].lineno}: {words}" if frames else words


@contextmanager
def only_warned(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a warning that names what is missing: "the report".

    A run whose results are on disk has succeeded without reports and pictures.
    """
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, ExpectedError) else location(error)
        reason = " ".join(reason.split())
        log.warning("%s could not be made (%s): all else goes on without it", what, reason[:400])
        log.debug("%s could not be made", what, exc_info=True)


@lru_cache(maxsize=1024)
def warn_once(message: str) -> None:
    """Log a warning the first time this process meets it.

    A simulated client asks for its data in every round; its user wants to read the warning once.
    """
    data_log.warning("%s", message)


class _Plain(logging.Filter):
    """Shorten the records of expected errors; every other keeps its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        while error is not None and not isinstance(error, ExpectedError):
            error = error.__cause__
        if error is not None:
            record.msg, record.args = "error: %s", (error,)
            record.exc_info, record.exc_text = None, None
        return True


def say_expected_errors_plainly(name: str) -> None:
    """Have the logger of a framework, which logs what an app raises, do as the command does."""
    logger = logging.getLogger(name)
    if not any(isinstance(known, _Plain) for known in logger.filters):
        logger.addFilter(_Plain())
