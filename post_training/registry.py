"""The methods by name, found by looking at the files of this folder.

Adding one is one new file that ends with ``method = Method("name", run)``.
"""

from __future__ import annotations

import sys
from functools import cache

from foundation.registry import declared_in
from foundation.settings.post_training import method_names

from .method import Method


@cache
def methods() -> dict[str, Method]:
    """Return all methods by name, in alphabetical order."""
    return declared_in(sys.modules[__package__], "method", Method)


def chosen(names: str) -> list[Method]:
    """Return the methods that the key ``post-training`` names, in its order.

    Raises
    ------
    ConfigurationError
        See :func:`foundation.settings.post_training.method_names`.
    """
    return [methods()[name] for name in method_names(names, methods())]
