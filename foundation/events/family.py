"""What happens in a run: one frozen dataclass for each kind of event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from foundation.models import ModelDescription
from foundation.settings.configuration import RunConfiguration


class Listener(Protocol):
    """Follows a run: a sink, the pages of its report. What it cannot do must not end the run."""

    def __call__(self, event: Any) -> None:
        """Take an event, or one that was written before the run was resumed."""

    def close(self) -> None:
        """Finish what is open: the run goes on no more."""


@dataclass(frozen=True)
class RunOpened:
    """A run begins or goes on in a directory; comes before all others."""

    directory: Path
    configuration: RunConfiguration
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class PseudoImagesStored:
    """There are more files of pseudo images in a run's directory."""

    directory: Path
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ModelKept:
    """The model that a run keeps is in a folder.

    Parameters
    ----------
    folder : Path
        ``RUN_DIR/model``.
    description : ModelDescription
        What it needs to be used.
    stage : str
        Whose result it is.
    summary : Mapping
        What ``summary.json`` will say.
    """

    folder: Path
    description: ModelDescription
    stage: str
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class RunCompleted:
    """A run was carried out to its end; all its files are written."""

    directory: Path
    summary: Mapping[str, Any]
    class_names: tuple[str, ...]
