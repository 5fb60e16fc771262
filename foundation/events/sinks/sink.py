"""What every place that a run's numbers and pictures go to has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Sink(Protocol):
    """A place for numbers and pictures. What it raises ends the sink, never the run."""

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Take finite numbers of one moment.

        Their group ("federated", "distillation", "clients") has an axis of its own, on which the
        step is a round, an epoch, or the number of a stage.
        """

    def picture(self, name: str, step: int, png: bytes) -> None:
        """Take a PNG file's content, of several steps under that name."""

    def close(self) -> None:
        """Finish what is open."""
