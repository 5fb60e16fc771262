"""The algorithms by name, found by looking at the files of this folder.

Adding one is one new file that ends with ``algorithm = Algorithm(...)``.
"""

from __future__ import annotations

import sys
from functools import cache

from foundation.registry import declared_in
from foundation.settings.configuration import ConfigurationError, RunConfiguration

from .algorithm import Algorithm
from .local_loss import LocalLoss


@cache
def algorithms() -> dict[str, Algorithm]:
    """Return all algorithms by name, in alphabetical order."""
    return declared_in(sys.modules[__package__], "algorithm", Algorithm)


@cache
def local_losses() -> dict[str, LocalLoss]:
    """Return the local losses that depend on a client's labels, by name."""
    return declared_in(sys.modules[__package__], "local_loss", LocalLoss)


def get(name: str) -> Algorithm:
    """Return an algorithm.

    Raises
    ------
    ConfigurationError
        If there is none of that name; the message lists the choices.
    """
    if name not in algorithms():
        raise ConfigurationError(
            f"unknown strategy {name!r}; choose one of {', '.join(algorithms())}"
        )
    return algorithms()[name]


def prior_left(configuration: RunConfiguration) -> float:
    """Return how many times a client's log prior is in its model's logits after training.

    See :meth:`strategies.local_loss.ClientLoss.prior_left`.
    """
    name = get(configuration.strategy).loss_name(configuration)
    return local_losses()[name].loss.prior_left(configuration) if name in local_losses() else 1.0
