"""Find what the files of a folder declare: adding a member is one new file."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from types import ModuleType
from typing import Protocol, TypeVar

log = logging.getLogger("flwr.fedf2dg")


class Named(Protocol):
    """A member of a family."""

    @property
    def name(self) -> str:
        """What a user calls it."""
        ...


Member = TypeVar("Member", bound=Named)


def declared_in(package: ModuleType, attribute: str, kind: type[Member]) -> dict[str, Member]:
    """Return what the modules of a package declare, by name, in alphabetical order.

    Parameters
    ----------
    package : module
        The folder.
    attribute : str
        The global name under which a module declares its member; one without it has none. With
        an *s* behind it, the name of a tuple of members, which a module may declare instead.
    kind : type
        Of a member.
    """
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        try:
            content = importlib.import_module(f"{package.__name__}.{module.name}")
        except Exception as error:  # whatever a half-written file raises
            # One file that cannot be loaded must not take all others with it.
            log.warning(
                "%s/%s.py is left out: %s: %s",
                package.__name__,
                module.name,
                type(error).__name__,
                error,
            )
            continue
        alone, table = getattr(content, attribute, None), getattr(content, f"{attribute}s", None)
        for declared in (alone, *(table if isinstance(table, tuple) else ())):
            if isinstance(declared, kind):
                found[declared.name] = declared
    return dict(sorted(found.items()))
