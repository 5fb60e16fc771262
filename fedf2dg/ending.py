"""How a command ends: its exit status, and what is said of an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from foundation import ExpectedError
from foundation.disks import disk_problem, is_full

#: Exit status of a command that did not succeed.
FAILED = ExpectedError.exit_status
INTERRUPTED = 130


def exit_status(work: Callable[[], int]) -> int:
    """Carry out a command, and return its exit status.

    An expected error is one line on standard error, and so is a disk that is full or closed; any
    other keeps its traceback.
    """
    try:
        status = work()
        sys.stdout.flush()  # a full disk is to be met here, and not when the interpreter ends
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not try to flush the rest.
        _forget_output()
        return FAILED
    except ExpectedError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:
        if not (problem := disk_problem(error)):
            raise
        if is_full(error):
            _forget_output()  # which may be what is full
            problem += ". What was written before is whole: free some space, and repeat the command"
        print(f"error: {problem}", file=sys.stderr)
        return FAILED


def _forget_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
