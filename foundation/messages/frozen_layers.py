"""The frozen layers of a model: sent to every client once, and known by their hash from then on.

The server leaves them out of states for clients that hold them, and says so in the message; a
client puts them back where it reads the states, and leaves them out of its answer. It keeps them in
its process and on its disk, since on a real site every message starts a process.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from foundation.data.cache import entry
from foundation.messages.content import CONFIG
from foundation.messages.records import InvalidContent, from_record, names_in
from foundation.models import State, digest_of

if TYPE_CHECKING:
    from flwr.app import RecordDict

#: Settings of a message: the hash of the frozen layers, and the states that come without them.
FROZEN, WITHOUT = "frozen-layers", "without-frozen-layers"
_FILE = "frozen.safetensors"


class FrozenLayers:
    """The server's half: the frozen entries of the global model, maybe none, and who holds them."""

    def __init__(self, state: State, names: Sequence[str] = ()) -> None:
        self.layers = {name: state[name] for name in names}
        self.digest = digest_of(self.layers)
        self._holders: set[int] = set()

    def part_of(self, state: State) -> bool:
        """Tell whether a state holds these very layers."""
        return bool(self.layers) and all(
            name in state and (state[name] is value or torch.equal(state[name], value))
            for name, value in self.layers.items()
        )

    def held_by(self, client: int) -> bool:
        """Tell whether a client has answered a message that held these layers."""
        return client in self._holders

    def sent(
        self, states: Mapping[str, State], held: bool, said: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, State], dict[str, Any]]:
        """Return what of states is sent, and the settings that say what was left out.

        Layers that are ``held`` are; ``said`` are such settings of other states in the message.
        """
        whole = [name for name, state in states.items() if self.part_of(state)]
        if not whole:
            return dict(states), dict(said or {})
        left_out = whole if held else []
        lighter = {name: self.without(states[name]) for name in left_out}
        before = [] if said is None else said.get(WITHOUT, [])
        return {**states, **lighter}, {FROZEN: self.digest, WITHOUT: [*before, *left_out]}

    def without(self, state: State) -> State:
        """Return the entries of a state that are not frozen."""
        return {name: value for name, value in state.items() if name not in self.layers}

    def whole(self, state: State, like: State) -> State:
        """Return a state with these layers put back, in the order of another."""
        return {name: self.layers[name] if name in self.layers else state[name] for name in like}

    def answered(self, valid: Iterable[int], failed: Iterable[int]) -> None:
        """Note who answered a message with these layers; who failed may have lost them."""
        self._holders.update(valid)
        self._holders.difference_update(failed)


_HELD: dict[str, State] = {}


def held_layers(content: "RecordDict", model: State, frozen: Sequence[str]) -> State:
    """Return the frozen layers that states of a message come without, and keep those that come.

    ``frozen`` are the names of such layers in a ``model`` of the client. Nothing left out is an
    empty state. Layers that are not here, or are others than the message says, are InvalidContent.
    """
    settings: Mapping[str, Any] = content.config_records.get(CONFIG) or {}
    digest = str(settings.get(FROZEN, ""))
    if settings.get(WITHOUT):
        if digest not in _HELD and not _loaded(digest):
            raise InvalidContent(
                f"this client does not hold the frozen layers {digest[:12]} (any more): the server "
                "sends them again with its next message"
            )
        return _HELD[digest]
    if digest and digest not in _HELD:
        _keep(content, digest, model, frozen)
    return {}


def _keep(content: "RecordDict", digest: str, model: State, frozen: Sequence[str]) -> None:
    records = content.array_records.values()
    record = next((found for found in records if set(names_in(found)) == set(model)), None)
    if record is None:
        return
    whole = from_record(record, model)
    part = {name: whole[name] for name in frozen}
    if digest_of(part) != digest:
        raise InvalidContent("its frozen layers are not those that it names")
    _remember(digest, part)
    entry("frozen", digest, lambda folder: save_file(part, folder / _FILE), private=True)


def _remember(digest: str, part: State) -> None:
    _HELD.clear()  # a process works for one run
    _HELD[digest] = part


def _loaded(digest: str) -> bool:
    try:
        stored = load_file(entry("frozen", digest, _missing, private=True) / _FILE)
    except (OSError, SafetensorError):
        return False
    if digest_of(stored) != digest:
        return False
    _remember(digest, stored)
    return True


def _missing(folder: Path) -> None:
    raise FileNotFoundError(folder)
