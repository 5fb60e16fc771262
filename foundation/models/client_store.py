"""What the server keeps of each client, on disk: memory does not grow with the clients.

Files are versioned by round (``client-00003-round-0007.safetensors``), and the table of valid
versions is part of a checkpoint. A round that was interrupted leaves files that no checkpoint
refers to, so it can be repeated from the state before it.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from foundation import clear_unfinished, whole_file
from foundation.models import State

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
        with safe_open(self.path(client), "pt") as file:
            state: State = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            name = (file.metadata() or {}).get(_SHARED)
        return state if name is None else {**load_file(self._shared(name)), **state}

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
