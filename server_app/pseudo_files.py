"""Pseudo data on disk: one safetensors file per generated batch, beside the run's checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from federated_data import Normalization
from generation import PseudoData
from protocol.client_store import write_whole

from .checkpoints import CheckpointError

# Of the steps "generate-00" and "compete-01-generate-00".
_STEP = re.compile(r"(?:compete-(?P<round>\d+)-)?generate-(?P<batch>\d+)")
_FILE = re.compile(r"(?P<kind>common|hard)-c\d+-b\d+\.safetensors")


def _file_name(kind: str, competition_round: int, batch: int) -> str:
    return f"{kind}-c{competition_round}-b{batch}.safetensors"


def forget_repeated(directory: Path, completed: Iterable[str]) -> None:
    """Delete what a stage that is to be repeated has left, which a report would take for new.

    Parameters
    ----------
    directory : Path
        ``RUN_DIR/pseudo_data``; may not exist.
    completed : iterable of str
        The steps that are not repeated.
    """
    kept = set()
    for step in completed:
        if made := _STEP.fullmatch(step):
            repetition = int(made["round"] or 0)
            kept.add(_file_name("hard" if repetition else "common", repetition, int(made["batch"])))
    for path in list(directory.glob("*.safetensors")):
        made = _FILE.fullmatch(path.name)  # a hook of one's own may keep others there
        if made and path.name not in kept:
            path.unlink()
            if made["kind"] == "common":  # the picture shows these
                (directory / "grid.png").unlink(missing_ok=True)


class PseudoFiles:
    """The folder ``pseudo_data`` of a run.

    Parameters
    ----------
    directory : Path
        ``RUN_DIR/pseudo_data``.
    normalization : Normalization
        Stored with the images, which are in normalised space.
    """

    def __init__(self, directory: Path, normalization: Normalization) -> None:
        self.directory = directory
        self._normalization = normalization

    def path(self, kind: str, competition_round: int, batch: int) -> Path:
        """Return the file of a batch."""
        return self.directory / _file_name(kind, competition_round, batch)

    def write(self, kind: str, competition_round: int, batch: int, data: PseudoData) -> None:
        """Store a batch, whole or not at all."""
        write_whole(
            self.path(kind, competition_round, batch),
            {
                "images": data.images,
                "labels": data.labels,
                "sources": data.sources,
                "logits": data.logits,
            },
            {
                "mean": json.dumps(self._normalization.mean),
                "std": json.dumps(self._normalization.std),
            },
        )

    def read(self, kind: str, competition_round: int, batch: int) -> PseudoData:
        """Load a batch.

        Raises
        ------
        CheckpointError
            If it is missing or damaged.
        """
        path = self.path(kind, competition_round, batch)
        try:
            return PseudoData(**load_file(path))
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} is missing: run the stage that generates it first"
            ) from error
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
