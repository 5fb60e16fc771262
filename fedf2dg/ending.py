"""How a command ends: its exit status, and what is said of an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from foundation import ExpectedError

#: Exit status of a command that did not succeed.
FAILED = ExpectedError.exit_status
INTERRUPTED = 130


def exit_status(work: Callable[[], int]) -> int:
    """Carry out a command, and return its exit status.

    An expected error is one line on standard error; any other keeps its traceback.
    """
    try:
        return work()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ExpectedError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
