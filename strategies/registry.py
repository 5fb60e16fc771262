"""The algorithms by name, found by looking at the files of this folder.

Adding one is one new file that ends with ``algorithm = Algorithm(...)``.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
from functools import cache

from configuration import ConfigurationError

from .algorithm import Algorithm

log = logging.getLogger("flwr.fedf2dg")


@cache
def algorithms() -> dict[str, Algorithm]:
    """Return all algorithms by name, in alphabetical order."""
    found = {}
    for module in pkgutil.iter_modules(sys.modules[__package__].__path__):
        try:
            content = importlib.import_module(f"{__package__}.{module.name}")
        except Exception as error:  # whatever a half-written file raises
            # One file that cannot be loaded must not take all other algorithms with it.
            log.warning(
                "strategies/%s.py is left out: %s: %s", module.name, type(error).__name__, error
            )
            continue
        declared = getattr(content, "algorithm", None)
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
