"""The algorithms and local losses by name: a file of this folder each, or anybody's own."""

from __future__ import annotations

from foundation.members import LOCAL_LOSSES, STRATEGIES
from foundation.settings.configuration import RunConfiguration
from foundation.settings.federated_training import LOSSES_OF_THE_LOOP

from .algorithm import Algorithm
from .local_loss import LocalLoss


def get(name: str) -> Algorithm:
    """Return an algorithm; a ConfigurationError lists the choices if there is none of that name."""
    return STRATEGIES.load(name, Algorithm)


def label_loss(name: str) -> LocalLoss:
    """Return a local loss that depends on labels; a ConfigurationError lists the choices."""
    return LOCAL_LOSSES.load(name, LocalLoss)


def algorithms() -> dict[str, Algorithm]:
    """Return all algorithms of this folder by name, in alphabetical order."""
    return {name: get(name) for name in STRATEGIES.ours}


def prior_left(configuration: RunConfiguration) -> float:
    """Return how many times a client's log prior is in its model's logits after training.

    See :meth:`strategies.local_loss.ClientLoss.prior_left`.
    """
    name = get(configuration.strategy).loss_name(configuration)
    return 1.0 if name in LOSSES_OF_THE_LOOP else label_loss(name).loss.prior_left(configuration)
