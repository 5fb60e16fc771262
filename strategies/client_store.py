"""What the server keeps of each client, on disk: memory does not grow with the clients.

Files are versioned by round (``client-00003-round-0007.safetensors``), and the table of valid
versions is part of a checkpoint. A round that was interrupted leaves files that no checkpoint
refers to, so it can be repeated from the state before it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from models import State

Version = tuple[int, int]
"""A client, and the round its state is from."""

_FILE = re.compile(r"client-(\d+)-round-(\d+)\.safetensors")


class ClientStore:
    """The states of every client, on disk: those of the rounds that are valid.

    Parameters
    ----------
    directory : Path
        Created on the first write.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._rounds: dict[int, tuple[int, ...]] = {}

    @property
    def rounds(self) -> dict[int, tuple[int, ...]]:
        """Client index to the rounds its valid states are from, ascending."""
        return dict(sorted(self._rounds.items()))

    def __contains__(self, client: int) -> bool:
        return client in self._rounds

    def missing(self) -> list[Path]:
        """Return the files of valid states that are not there."""
        paths = [self._path(client, at) for client, valid in self.rounds.items() for at in valid]
        return [path for path in paths if not path.is_file()]

    def _path(self, client: int, server_round: int) -> Path:
        return self.directory / f"client-{client:05d}-round-{server_round:04d}.safetensors"

    def write(self, client: int, server_round: int, state: State) -> None:
        """Store a client's state of a round, behind those of earlier rounds."""
        self.directory.mkdir(parents=True, exist_ok=True)
        target = self._path(client, server_round)
        partial = target.with_suffix(".partial")
        save_file({name: value.contiguous() for name, value in state.items()}, partial)
        partial.replace(target)
        earlier = (at for at in self._rounds.get(client, ()) if at < server_round)
        self._rounds[client] = (*earlier, server_round)

    def read(self, client: int, server_round: int | None = None) -> State:
        """Load a client's state of a round; of the latest one if none is given.

        Raises
        ------
        KeyError
            If nothing is stored for the client.
        """
        at = self._rounds[client][-1] if server_round is None else server_round
        state: State = load_file(self._path(client, at))
        return state

    def declare(self, rounds: Mapping[int, Sequence[int]]) -> None:
        """Say which rounds are valid, as the checkpoint being resumed knew them."""
        self._rounds = {client: tuple(sorted(valid)) for client, valid in rounds.items() if valid}

    def prune(self, retained: Collection[Version] = ()) -> None:
        """Delete every file that is neither valid nor among the retained."""
        valid = {(client, at) for client, rounds in self._rounds.items() for at in rounds}
        wanted = {self._path(client, at).name for client, at in valid | set(retained)}
        if self.directory.is_dir():
            for file in self.directory.iterdir():
                if file.name not in wanted and (
                    _FILE.fullmatch(file.name) or file.suffix == ".partial"
                ):
                    file.unlink(missing_ok=True)
