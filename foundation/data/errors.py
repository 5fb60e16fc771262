"""What can be wrong with data, and how it is said.

Two errors stop a run; everything that training can live with is a warning in the logger
``flwr.fedf2dg.data`` (below ``flwr``, so that Flower's log stream carries it to the user).
"""

import logging
from functools import lru_cache

from foundation import UsageError

logger = logging.getLogger("flwr.fedf2dg.data")


class DataError(UsageError, ValueError):
    """Images or labels that cannot be used: the message names the place and what to do."""


class PartitionError(UsageError, ValueError):
    """A division of the data over clients that cannot be made: the reason and what to change."""


@lru_cache(maxsize=1024)
def warn_once(message: str) -> None:
    """Log a warning the first time this process meets it.

    A simulated client asks for its data in every round; its user wants to read the warning once.
    """
    logger.warning(message)
