"""What every sink has in common, and the sinks by name with what each needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple, Protocol

from foundation import UsageError


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


class SinkError(UsageError, ValueError):
    """A sink that does not exist, or whose library is not installed."""


class Needs(NamedTuple):
    """The module with a sink's ``open_sink``, and the library that it imports, if any."""

    module: str
    library: str = ""


#: Name, as the key ``sinks`` has it, to what is behind it. A library's extra is called like it.
SINKS = {
    "csv": Needs("foundation.events.sinks.csv_file"),
    "mlflow": Needs("foundation.events.sinks.mlflow_run", "mlflow"),
    "tensorboard": Needs("foundation.events.sinks.tensorboard_events", "tensorboard"),
    "wandb": Needs("foundation.events.sinks.wandb_run", "wandb"),
}


def chosen_sinks(names: Sequence[str]) -> dict[str, str]:
    """Return the modules of sinks by name; a SinkError if one is unknown or not installed."""
    for name in names:
        if name not in SINKS:
            raise SinkError(f"unknown sink {name!r} in sinks: choose from {', '.join(SINKS)}")
        library = SINKS[name].library
        if library and find_spec(library) is None:
            raise SinkError(
                f"sinks = {name!r} needs the library {library}: pip install {library} (or the "
                f"extra of that name)"
            )
    return {name: SINKS[name].module for name in names}
