"""The methods by name: a file of this folder each, or anybody's own."""

from __future__ import annotations

from foundation.members import METHODS
from foundation.settings.post_training import method_names

from .method import Method


def methods() -> dict[str, Method]:
    """Return all methods of this folder by name, in alphabetical order."""
    return {name: METHODS.load(name, Method) for name in METHODS.ours}


def chosen(names: str) -> list[Method]:
    """Return the methods that the key ``post-training`` names, in its order.

    Raises
    ------
    ConfigurationError
        See :func:`foundation.settings.post_training.method_names`.
    """
    return [METHODS.load(name, Method) for name in method_names(names)]
