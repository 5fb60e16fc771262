"""The methods by name, found by looking at the files of this folder.

Adding one is one new file that ends with ``method = Method("name", run)``.
"""

from __future__ import annotations

import sys
from functools import cache

from configuration import ConfigurationError
from foundation.registry import declared_in

from .method import Method


@cache
def methods() -> dict[str, Method]:
    """Return all methods by name, in alphabetical order."""
    return declared_in(sys.modules[__package__], "method", Method)


def chosen(names: str) -> list[Method]:
    """Return the methods that the key ``post-training`` names, in its order.

    Parameters
    ----------
    names : str
        One name, or several, separated by commas.

    Raises
    ------
    ConfigurationError
        If there is none of a name, the same method is named twice, or ``none`` is named beside
        others; the message lists the choices.
    """
    given = [name.strip() for name in names.split(",") if name.strip()]
    if not given or len(set(given)) < len(given) or ("none" in given and len(given) > 1):
        raise ConfigurationError(
            f"post-training = {names!r}: name none, or one or several different ones of "
            f"{', '.join(name for name in methods() if name != 'none')}, separated by commas"
        )
    for name in given:
        if name not in methods():
            raise ConfigurationError(
                f"unknown post-training method {name!r}; choose one of {', '.join(methods())}"
            )
    return [methods()[name] for name in given]
