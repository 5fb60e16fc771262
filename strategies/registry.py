"""The algorithms by name, found by looking at the files of this folder.

Adding one is one new file that ends with ``algorithm = Algorithm(...)``.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from functools import cache

from configuration import ConfigurationError

from .algorithm import Algorithm


@cache
def algorithms() -> dict[str, Algorithm]:
    """Return all algorithms by name, in alphabetical order."""
    found = {}
    for module in pkgutil.iter_modules(sys.modules[__package__].__path__):
        declared = getattr(
            importlib.import_module(f"{__package__}.{module.name}"), "algorithm", None
        )
        if isinstance(declared, Algorithm):
            found[declared.name] = declared
    return dict(sorted(found.items()))


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
