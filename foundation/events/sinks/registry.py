"""The sinks by name, and what each needs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

from foundation import UsageError


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
    """Return the modules of sinks by name, after a look at what they need.

    Raises
    ------
    SinkError
        If one is unknown, or its library is not installed; the message says how to install it.
    """
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
