"""Errors that are expected: their message is all that a user needs, so no traceback is shown.

Every other exception is a defect of the program and keeps its traceback.
"""

from __future__ import annotations

from typing import ClassVar


class ExpectedError(Exception):
    """Something that happens in correct programs, with a message that says what to do.

    Attributes
    ----------
    exit_status : int
        Exit status of a command that ends with this error: 1, it failed.
    """

    exit_status: ClassVar[int] = 1


class UsageError(ExpectedError):
    """What was asked for cannot be done; the exit status is 2, as argparse has it."""

    exit_status: ClassVar[int] = 2


class DataError(UsageError, ValueError):
    """Images or labels that cannot be used: the message names the place and what to do."""


class PartitionError(UsageError, ValueError):
    """A division of the data over clients that cannot be made: the reason and what to change."""
