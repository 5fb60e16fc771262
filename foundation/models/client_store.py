"""States on disk: what the server keeps of each client, and a site of layers of its own.

The server's files are versioned by round (``client-00003-round-0007.safetensors``), and the table
of valid versions is part of a checkpoint. A round that was interrupted leaves files that no
checkpoint refers to, so it can be repeated from the state before it.

A site keeps its BatchNorm layers after every round that it trains in, under the round and the run,
and for every model that a run made, what it may use in the place of that model's layers.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from foundation import clear_unfinished, whole_file
from foundation.errors import ConfigurationError
from foundation.files import OWN_FOLDER

from .batch_norm import batch_norm_layers
from .state import State, digest_of, is_frozen, state_difference

_FILE = re.compile(r"client-(\d+)-round-(\d+)\.safetensors")
_SHARED = "shared"


def write_state(target: Path, tensors: State, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file that a killed process, or a power cut, leaves whole or not at all.

    Its folder is made if missing. Tensors may be views, and share memory with each other.
    """
    # safetensors refuses tensors that are not contiguous, or share memory.
    copies = {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    with whole_file(target) as aside:
        save_file(copies, aside, dict(metadata) if metadata else None)


def _read_state(file: Path) -> tuple[State, dict[str, str]]:
    with safe_open(file, "pt") as held:
        state = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        return state, held.metadata() or {}


class ClientStore:
    """One state per client in a directory, the last valid version of each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._versions: dict[int, int] = {}

    @property
    def versions(self) -> dict[int, int]:
        """Client index to the round its state is from."""
        return dict(sorted(self._versions.items()))

    def __contains__(self, client: int) -> bool:
        return client in self._versions

    def path(self, client: int) -> Path:
        """Return the file of a client's valid state."""
        return self._path(client, self._versions[client])

    def _path(self, client: int, server_round: int) -> Path:
        return self.directory / f"client-{client:05d}-round-{server_round:04d}.safetensors"

    def write(
        self, client: int, server_round: int, state: State, shared: tuple[str, State] | None = None
    ) -> None:
        """Store a client's state of a round; it becomes the valid one.

        What the states of all clients have in common, such as a frozen encoder, may be ``shared``,
        under a name of its own: it is written once.
        """
        path, metadata = self._path(client, server_round), None
        if shared is not None:
            name, common = shared
            metadata = {_SHARED: name}
            if not (file := self._shared(name)).is_file():
                write_state(file, common)
        write_state(path, state, metadata)
        self._versions[client] = server_round

    def _shared(self, name: str) -> Path:
        return self.directory / f"{_SHARED}-{name[:16]}.safetensors"

    def read(self, client: int) -> State:
        """Load a client's valid state; a KeyError says that there is none."""
        state, said = _read_state(self.path(client))
        return {**load_file(self._shared(said[_SHARED])), **state} if _SHARED in said else state

    def declare(self, versions: Mapping[int, int]) -> None:
        """Say which versions are valid, as the checkpoint being resumed knew them."""
        self._versions = dict(versions)

    def prune(self, retained: Collection[tuple[int, int]] = ()) -> None:
        """Delete every file that is neither valid nor among the retained (client, round)."""
        wanted = {
            self._path(client, at).name for client, at in {*self._versions.items(), *retained}
        }
        if self.directory.is_dir():
            clear_unfinished(self.directory)
            for file in self.directory.iterdir():
                if file.name not in wanted and _FILE.fullmatch(file.name):
                    file.unlink(missing_ok=True)


#: The file beside a model that says which sites have layers of their own, and where these are.
OWN_LAYERS = "personal.json"
_RUN = re.compile("[0-9a-f]{16}")


def batch_norm_entries(model: nn.Module) -> tuple[str, ...]:
    """Return the names in a model's state of its BatchNorm layers, those apart that are frozen."""
    return tuple(
        f"{layer}.{name}"
        for layer, module in batch_norm_layers(model).items()
        if not is_frozen(module)
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

        ``runs`` are the last rounds that count of each process of the run: what one that was killed
        left behind its last checkpoint does not. The layers have to be ``like`` others.
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
            layers, said = _read_state(file)
            problem = state_difference({name: like[name] for name in layers}, layers)
        except (OSError, SafetensorError, KeyError) as error:
            problem = str(error)
        if problem:
            raise ConfigurationError(f"a site's own layers in {file} cannot be used: {problem}")
        return layers, said
