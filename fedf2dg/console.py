"""What a command says: the log for somebody who watches a terminal, and how it ends."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from foundation import ExpectedError
from foundation.files import disk_problem, is_full

#: Exit status of a command that did not succeed.
FAILED = ExpectedError.exit_status
INTERRUPTED = 130

_OWN = "flwr.fedf2dg"
_given: list[str] = []


def warnings_given() -> Sequence[str]:
    """Return the warnings that this process has written, for who shows another's as well."""
    return tuple(_given)


@contextmanager
def logged_to(output: TextIO | None) -> Iterator[None]:
    """Write the run's log to a stream, if there is one, plain, instead of where Flower does."""
    if output is None:
        yield
        return
    with _handled("flwr", [_Console(output)], propagate=False), _handled(_OWN, [], propagate=True):
        yield


@contextmanager
def plain_warnings(output: TextIO) -> Iterator[None]:
    """Write this app's own log to a stream, plain, until a run's log takes over.

    Flower's handler colours its lines, into files and pipes as well.
    """
    with _handled(_OWN, [_Console(output)], propagate=False):
        yield


@contextmanager
def _handled(name: str, handlers: list[logging.Handler], *, propagate: bool) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers[:], logger.propagate = handlers, propagate
    # As Flower's own log has it; the tracebacks of what was only warned of are for debugging.
    debugging = os.environ.get("FLWR_LOG_LEVEL", "").upper() == "DEBUG"
    logger.setLevel(logging.DEBUG if debugging else logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:], level, logger.propagate = before
        logger.setLevel(level)


class Printer:
    """Prints lines as long as the stream takes them.

    A reader that has seen enough, or a full disk, ends the log of a run and not the run.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._ended = False

    def __call__(self, line: str) -> None:
        """Print a line."""
        if self._ended:
            return
        try:
            print(line, file=self._output, flush=True)
        except OSError as error:
            self._ended = True
            if not isinstance(error, BrokenPipeError):
                said = f"warning: the log ends here ({error.strerror}); the run goes on"
                print(said, file=sys.stderr)


class _Console(logging.Handler):
    def __init__(self, output: TextIO) -> None:
        super().__init__()
        self._print = Printer(output)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno == logging.WARNING:
            _given.append(text)
        if record.levelno > logging.INFO:
            text = f"{record.levelname}: {text}"
        elif record.levelno < logging.INFO and record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self._print(text)


def exit_status(work: Callable[[], int | None]) -> int:
    """Carry out a command, and return its exit status; that of one that returns None is 0.

    An expected error is one line on standard error, and so is a disk that is full or closed; any
    other keeps its traceback.
    """
    try:
        status = work() or 0
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


def data_folder(name: str) -> Path:
    """Return a folder of the repository that also travels in the wheel: presets, examples."""
    packed = Path(__file__).with_name(name)
    return packed if packed.is_dir() else packed.parents[1] / name
