"""Layers that are a site's own: which they are, and where it keeps them.

A site keeps its BatchNorm layers after every round that it trains in, under the round and the run,
and for every model that a run made, what it may use in the place of that model's layers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from safetensors import SafetensorError, safe_open
from torch import nn

from foundation.errors import ConfigurationError
from foundation.files import OWN_FOLDER

from .batch_norm import batch_norm_layers
from .client_store import write_state
from .state import State, digest_of, state_difference

#: The file beside a model that says which sites have layers of their own, and where these are.
OWN_LAYERS = "personal.json"
_RUN = re.compile("[0-9a-f]{16}")


def batch_norm_entries(model: nn.Module) -> tuple[str, ...]:
    """Return the names in a model's state of its BatchNorm layers, those apart that are frozen."""
    return tuple(
        f"{layer}.{name}"
        for layer, module in batch_norm_layers(model).items()
        if not (own := list(module.parameters(recurse=False))) or any(p.requires_grad for p in own)
        for name in module.state_dict()
    )


@dataclass(frozen=True)
class OwnLayers:
    """A site's own layers for one model, and whether they are better there than that model's."""

    of: str
    layers: State
    kept: bool


@dataclass(frozen=True)
class SiteFolder:
    """Where a site keeps its layers; made when there is something to keep."""

    path: Path

    @classmethod
    def beside(cls, images: Path) -> Self:
        """Return that of a site whose images are in a folder, or a file."""
        inside = images / OWN_FOLDER
        return cls(inside if images.is_dir() else images.parent / OWN_FOLDER / images.stem)

    def keep_round(self, run: str, server_round: int, layers: State) -> None:
        """Keep the layers that a round of a run left."""
        self._write(self._round(run, server_round), layers)

    def after_rounds(self, runs: Mapping[str, int], like: State) -> State:
        """Return the layers that the last round left in which the site took part; maybe none.

        Parameters
        ----------
        runs : Mapping[str, int]
            The last round that counts of each process of the run: what one that was killed left
            behind its last checkpoint does not.
        like : State
            What they have to be like.
        """
        found = [
            (server_round, file)
            for run, last in runs.items()
            for file in self._round(run, 0).parent.glob(f"{run}-*.safetensors")
            if (server_round := int(file.stem.rpartition("-")[2])) <= last
        ]
        return self._read(max(found)[1], like)[0] if found else {}

    def keep(self, model: State, own: OwnLayers) -> None:
        """Keep the layers for a model."""
        said = {"of": own.of, "kept": str(own.kept)}
        self._write(self._for(model), own.layers, said)

    def own_layers(self, model: State) -> OwnLayers | None:
        """Return the layers for a model; None if there are none."""
        if not (file := self._for(model)).is_file():
            return None
        layers, said = self._read(file, model)
        return OwnLayers(said.get("of", ""), layers, said.get("kept") == "True")

    def _round(self, run: str, server_round: int) -> Path:
        if not _RUN.fullmatch(run):  # it becomes a path
            raise ConfigurationError(f"the server calls its run {run[:40]!r}")
        return self.path / "rounds" / f"{run}-{server_round:04d}.safetensors"

    def _for(self, model: State) -> Path:
        return self.path / "models" / f"{digest_of(model)[:16]}.safetensors"

    def _write(self, file: Path, layers: State, said: Mapping[str, str] | None = None) -> None:
        try:
            write_state(file, layers, said)
        except OSError as error:
            raise ConfigurationError(
                f"this site cannot keep its own layers in {self.path}: {error.strerror}. Name "
                "another folder: --node-config \"keep-path='/path/to/folder'\""
            ) from error

    def _read(self, file: Path, like: State) -> tuple[State, dict[str, str]]:
        try:
            with safe_open(file, "pt") as held:
                layers = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
                said = held.metadata() or {}
            problem = state_difference({name: like[name] for name in layers}, layers)
        except (OSError, SafetensorError, KeyError) as error:
            problem = str(error)
        if problem:
            raise ConfigurationError(f"a site's own layers in {file} cannot be used: {problem}")
        return layers, said
