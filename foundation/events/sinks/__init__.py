"""Where a run's numbers and pictures go beside its directory: one file here for each place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from foundation.errors import ConfigurationError
from foundation.members import SINKS


class OpenSink(Protocol):
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


@dataclass(frozen=True)
class Sink:
    """A sink that a run can name, and the library that it imports, if any.

    `open` gets the run's directory and its flat configuration; a resumed run's events come again.
    """

    name: str
    open: Callable[[Path, Mapping[str, Any]], OpenSink]
    library: str = ""


def require_sinks(names: Sequence[str]) -> None:
    """Refuse a sink that there is none of, or whose library is not installed."""
    for name in names:
        library = SINKS.load(name, Sink).library
        if library and find_spec(library) is None:
            raise ConfigurationError(
                f"sinks = {name!r} needs the library {library}: pip install {library} (or the "
                f"extra of that name)"
            )
