"""What a file of this folder declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from .settings import Settings
from .trained import Trained


@dataclass(frozen=True)
class Method:
    """A post-training method: what is done to the global model after the last federated round.

    Parameters
    ----------
    name : str
        The value of the key ``post-training``.
    run : callable
        Called with (trained, settings); offers its results to ``trained``.
    has_stages : bool (default: False)
        Whether its steps are the run's own stages ``generate``, ``distil`` and ``compete``.
    suits : callable, optional
        Called with (model, settings) before any work; raises ValueError for a model that the method
        cannot work on, or settings that it cannot work with.
    """

    name: str
    run: Callable[[Trained, Settings], None]
    has_stages: bool = False
    suits: Callable[[nn.Module, Settings], object] | None = None

    @property
    def prefix(self) -> str:
        """What its steps' names begin with in a run, so that those of two methods differ."""
        return "" if self.has_stages else f"{self.name.replace('-', '_')}-"
