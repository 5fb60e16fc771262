"""What an object remembers between rounds, as tensors and back: numbers, arrays, and collections.

A strategy of Flower's keeps its moments, velocities and counters as plain attributes. They are
taken out by value, so that a checkpoint can hold them (safetensors, never pickle), and are put back
into an object that was built anew. What came out is what goes in, bit for bit.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy

from foundation.errors import UsageError
from foundation.models import State

# The tensor that holds, as JSON in bytes, how the other tensors and plain values belong together.
_STRUCTURE = "structure"

Node = dict[str, Any]


class CannotRemember(UsageError, TypeError):
    """An attribute holds something that a checkpoint cannot; the message names it."""


def attributes_to_state(holder: object) -> State:
    """Return the values of an object's attributes, as tensors that share no memory with it.

    They may be None, booleans, numbers, text, NumPy arrays, torch tensors, ArrayRecords, other
    strategies, and lists, tuples and dictionaries of these; a :class:`CannotRemember` names another
    kind. Functions, classes and loggers are left out: building the object anew brings them back.
    """
    state: State = {}
    structure = _attributes(holder, "", state)
    text = json.dumps(structure).encode()
    state[_STRUCTURE] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return state


def attributes_from_state(holder: object, state: State) -> None:
    """Give an object, built as the first one was, the attributes that were taken out."""
    structure = json.loads(bytes(state[_STRUCTURE].tolist()).decode())
    _put_back(holder, structure, state)


def _attributes(holder: object, path: str, state: State) -> Node:
    return {
        name: _encoded(value, f"{path}{name}", state)
        for name, value in vars(holder).items()
        if not isinstance(value, Callable | logging.Logger)  # type: ignore[arg-type]
    }


def _put_back(holder: object, structure: Node, state: State) -> None:
    for name, node in structure.items():
        if node["kind"] == "strategy":
            _put_back(getattr(holder, name), node["attributes"], state)
        else:
            setattr(holder, name, _decoded(node, state))


def _encoded(value: Any, path: str, state: State) -> Node:
    if value is None or type(value) in (bool, int, float, str):
        return {"kind": "value", "value": value}
    if isinstance(value, torch.Tensor):
        state[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"kind": "tensor", "at": path}
    if isinstance(value, np.ndarray | np.generic):
        try:
            state[path] = torch.from_numpy(np.array(value, order="C"))
        except TypeError as error:
            raise CannotRemember(f"{path!r} is an array of {value.dtype}") from error
        return {"kind": "scalar" if isinstance(value, np.generic) else "array", "at": path}
    if isinstance(value, ArrayRecord):
        arrays = {name: array.numpy() for name, array in value.items()}
        return {"kind": "record", "items": _items(arrays, path, state)}
    if isinstance(value, Strategy):
        return {"kind": "strategy", "attributes": _attributes(value, f"{path}.", state)}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        parts = [_encoded(part, f"{path}.{index}", state) for index, part in enumerate(value)]
        return {"kind": kind, "parts": parts}
    if isinstance(value, Mapping) and all(type(key) in (str, int) for key in value):
        return {"kind": "dict", "items": _items(value, path, state)}
    raise CannotRemember(
        f"{path!r} is a {type(value).__name__}, which a checkpoint cannot hold: keep numbers, "
        "text, arrays, or lists and dictionaries of them"
    )


def _items(values: Mapping[Any, Any], path: str, state: State) -> list[list[Any]]:
    return [[key, _encoded(value, f"{path}.{key}", state)] for key, value in values.items()]


def _decoded(node: Node, state: State) -> Any:
    decode: Mapping[str, Callable[[], Any]] = {
        "value": lambda: node["value"],
        "tensor": lambda: state[node["at"]].clone(),
        "array": lambda: state[node["at"]].numpy().copy(),
        "scalar": lambda: state[node["at"]].numpy()[()],
        "record": lambda: ArrayRecord(
            {name: Array(_decoded(part, state)) for name, part in node["items"]}
        ),
        "list": lambda: [_decoded(part, state) for part in node["parts"]],
        "tuple": lambda: tuple(_decoded(part, state) for part in node["parts"]),
        "dict": lambda: {key: _decoded(part, state) for key, part in node["items"]},
    }
    return decode[node["kind"]]()
