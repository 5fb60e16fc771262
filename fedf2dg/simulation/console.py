"""The run's log for somebody who watches a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


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
    logger = logging.getLogger("flwr")
    before = logger.handlers[:], logger.level, logger.propagate
    handler = logging.StreamHandler(output)
    handler.setFormatter(_LevelFormatter())
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:], level, logger.propagate = before
        logger.setLevel(level)


class _LevelFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.levelno <= logging.INFO else f"{record.levelname}: {text}"
