"""What every place that a run's numbers and pictures go to has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Sink(Protocol):
    """A place for numbers and pictures. What it raises ends the sink, never the run."""

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of one moment.

        Parameters
        ----------
        group : str
            What they belong to, with an axis of its own: "federated", "distillation", "clients".
        step : int
            Where on that axis: a round, an epoch, the number of a stage.
        values : Mapping[str, float]
            Name to finite value: "accuracy", "seconds".
        """

    def picture(self, name: str, step: int, png: bytes) -> None:
        """Take a picture.

        Parameters
        ----------
        name : str
            What it shows.
        step : int
            Which of several under that name.
        png : bytes
            The content of a PNG file.
        """

    def close(self) -> None:
        """Finish what is open."""
