"""What a user calls: the command, the engines, comparisons, and the kit for real sites.

As a library: ``from fedf2dg import RunConfiguration, simulate``. What a name needs is imported when
the name is first used, so that the command starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configuration import RunConfiguration
    from fedf2dg.simulation.simulate import simulate
    from strategies import from_flower

__all__ = ["RunConfiguration", "from_flower", "simulate"]

_WHERE = {
    "RunConfiguration": "configuration",
    "from_flower": "strategies",
    "simulate": "fedf2dg.simulation.simulate",
}


def __getattr__(name: str) -> Any:
    """Import a name of the library on its first use."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
