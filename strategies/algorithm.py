"""An algorithm is a name and two halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from configuration import RunConfiguration

from .client import ClientAlgorithm
from .server import FederatedStrategy


@dataclass(frozen=True)
class Algorithm:
    """What a strategy file declares, as ``algorithm = Algorithm(...)``.

    Parameters
    ----------
    name : str
        The value of the key ``strategy``.
    server : type[FederatedStrategy]
        The server half.
    client : type[ClientAlgorithm]
        The client half.
    projection : bool (default: False)
        Whether the shared model gets a projection head (``moon.projection-dim``).
    check : callable, optional
        Raises a :class:`~configuration.ConfigurationError` for settings under which the algorithm
        cannot work, before any work is done.
    """

    name: str
    server: type[FederatedStrategy]
    client: type[ClientAlgorithm]
    projection: bool = False
    check: Callable[[RunConfiguration], None] = lambda configuration: None
