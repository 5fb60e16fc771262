"""The run's log for somebody who watches a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_OWN = "flwr.fedf2dg"


@contextmanager
def logged_to(output: TextIO | None) -> Iterator[None]:
    """Write the run's log to a stream, plain, instead of where Flower writes it.

    Parameters
    ----------
    output : TextIO or None
        None: leave the log as it is.
    """
    if output is None:
        yield
        return
    handler = _handler(output)
    with _handled("flwr", [handler], propagate=False), _handled(_OWN, [], propagate=True):
        yield


@contextmanager
def plain_warnings(output: TextIO) -> Iterator[None]:
    """Write this app's own log to a stream, plain, until a run's log takes over.

    Flower's handler colours its lines, into files and pipes as well.
    """
    with _handled(_OWN, [_handler(output)], propagate=False):
        yield


@contextmanager
def _handled(name: str, handlers: list[logging.Handler], *, propagate: bool) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:], level, logger.propagate = before
        logger.setLevel(level)


def _handler(output: TextIO) -> logging.Handler:
    handler = _Console(output)
    handler.setFormatter(_LevelFormatter())
    return handler


class _Console(logging.StreamHandler[TextIO]):
    """Ends when its stream does: a run has its results on disk, whoever reads its log."""

    _ended = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._ended:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        self._ended = True
        if not isinstance(error, BrokenPipeError):
            print(
                f"warning: the log ends here ({error.strerror}); the run goes on", file=sys.stderr
            )


class _LevelFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.levelno <= logging.INFO else f"{record.levelname}: {text}"
