"""What is said plainly in a log: an expected error in one line, and a warning once.

A warning goes to the logger ``flwr.fedf2dg.data``: below ``flwr``, so that Flower's log stream
carries it to the user.
"""

from __future__ import annotations

import logging
from functools import lru_cache

from .errors import ExpectedError

logger = logging.getLogger("flwr.fedf2dg.data")


@lru_cache(maxsize=1024)
def warn_once(message: str) -> None:
    """Log a warning the first time this process meets it.

    A simulated client asks for its data in every round; its user wants to read the warning once.
    """
    logger.warning("%s", message)


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
    """Have a logger write an expected error in one line.

    Parameters
    ----------
    name : str
        Of the logger: that of the framework which catches what an app raises, and logs it.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(known, _Plain) for known in logger.filters):
        logger.addFilter(_Plain())
