"""Pseudo data on disk: one safetensors file per step that made some, beside the checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from foundation.data import Normalization
from foundation.models.client_store import write_state
from generation import PseudoData
from post_training import methods

from .checkpoints import CheckpointError

# The files of FedF²DG's steps "generate-00" and "compete-01-generate-00" are named for readers; any
# other step's file has the step's name.
_STEP = re.compile(r"(?:compete-(?P<round>\d+)-)?generate-(?P<batch>\d+)")
_FILE = re.compile(r"(?P<kind>common|hard)-c(?P<round>\d+)-b(?P<batch>\d+)")


def _file_name(step: str) -> str:
    if made := _STEP.fullmatch(step):
        kind = "hard" if made["round"] else "common"
        return f"{kind}-c{int(made['round'] or 0)}-b{int(made['batch'])}.safetensors"
    return f"{step}.safetensors"


def _is_ours(path: Path) -> bool:
    """Tell whether a step of a known method wrote a file; somebody may keep others there."""
    prefixes = tuple(method.prefix for method in methods().values() if method.prefix)
    return bool(_FILE.fullmatch(path.stem)) or path.stem.startswith(prefixes)


def forget_repeated(directory: Path, completed: Iterable[str]) -> None:
    """Delete what a stage that is to be repeated has left, which a report would take for new."""
    kept = {_file_name(step) for step in completed}
    for path in list(directory.glob("*.safetensors")):
        if _is_ours(path) and path.name not in kept:
            path.unlink()
            if path.name.startswith("common-"):  # the picture shows these
                (directory / "grid.png").unlink(missing_ok=True)


class PseudoFiles:
    """The folder ``pseudo_data`` of a run: pseudo images by the step that made them.

    The normalisation is stored with the images, which are in normalised space. A method's steps
    begin with ``prefix``. ``written`` is called after every file.
    """

    def __init__(
        self,
        directory: Path,
        normalization: Normalization,
        prefix: str,
        written: Callable[[], None],
    ) -> None:
        self.directory = directory
        self._written = written
        self._normalization = normalization
        self._prefix = prefix

    def __setitem__(self, step: str, data: PseudoData) -> None:
        write_state(
            self._path(step),
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
        self._written()

    def __getitem__(self, step: str) -> PseudoData:
        path = self._path(step)
        try:
            return PseudoData(**load_file(path))
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} is missing: run the stage that generates it first"
            ) from error
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error

    def _path(self, step: str) -> Path:
        return self.directory / _file_name(self._prefix + step)
