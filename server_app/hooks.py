"""The post-training hook: a named, replaceable object that works on the trained global model.

Writing another one is a class with a ``__call__`` and one line in :data:`HOOKS`; the key ``hook``
chooses, and ``hook = "none"`` switches it off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .federation import Federation
from .fedf2dg import FedF2DG


class PostTrainingHook(Protocol):
    """Called once, after the last federated round."""

    def __call__(self, federation: Federation) -> None:
        """Work on the federation: read its local models, change its global model."""
        ...


class NoHook:
    """Leaves the federated model as it is."""

    def __call__(self, federation: Federation) -> None:
        """Do nothing."""


HOOKS: dict[str, Callable[[], PostTrainingHook]] = {
    "fedf2dg": FedF2DG,
    "none": NoHook,
}
