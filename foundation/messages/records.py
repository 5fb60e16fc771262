"""Between tensors and Flower's records: nothing that a peer sends is used before it is checked."""

from __future__ import annotations

import math
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from foundation.models import State, first_non_finite

if TYPE_CHECKING:
    from flwr.app import Array, ArrayRecord

_NUMPY_NAMES = {
    torch.float16: "float16",
    torch.float32: "float32",
    torch.float64: "float64",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.uint8: "uint8",
    torch.bool: "bool",
}
# The header numpy puts before an array's bytes is 64-byte aligned and short for plain dtypes.
_LONGEST_HEADER = 4096
_JOINT = "\n"


class InvalidContent(ValueError):
    """A message holds something else than its receiver needs; the text says what."""


def to_record(state: State) -> ArrayRecord:
    """Pack a state into an ArrayRecord."""
    from flwr.app import ArrayRecord

    return ArrayRecord(state)


def packed(state: State) -> ArrayRecord:
    """Pack a state for a message: tensors of one type as one array, under all their names.

    Flower moves every array with two requests from hop to hop: many small ones cost the SuperLink
    more than anything else it does.
    """
    groups: dict[torch.dtype, list[str]] = {}
    for name, value in state.items():
        groups.setdefault(value.dtype, []).append(name)
    return to_record(
        {
            _JOINT.join(names): torch.cat([state[name].reshape(-1) for name in names])
            if len(names) > 1
            else state[names[0]]
            for names in groups.values()
        }
    )


def is_packed(record: ArrayRecord) -> bool:
    """Tell whether tensors of a record were joined by :func:`packed`."""
    return any(_JOINT in names for names in record)


def names_in(record: ArrayRecord) -> list[str]:
    """Return the names of all tensors of a record, packed or not."""
    return [name for names in record for name in names.split(_JOINT)]


def as_sent(record: ArrayRecord, expected: State) -> State:
    """Return templates of the expected shapes, in the numeric types that a plain record declares.

    An unknown type stays the expected one, which :func:`from_record` then finds to differ.
    """
    types = {name: dtype for dtype, name in _NUMPY_NAMES.items() if dtype != torch.bool}
    return {
        name: template(
            types.get(record[name].dtype, like.dtype) if name in record else like.dtype, *like.shape
        )
        for name, like in expected.items()
    }


def from_record(record: ArrayRecord, expected: State, held: State | None = None) -> State:
    """Unpack an ArrayRecord that must hold the same names, shapes and dtypes as ``expected``.

    Entries that are ``held`` here may be missing, all of them together, and are then those. The
    order of names may differ: a file that a state went through may have sorted them. What was
    :func:`packed` together must have the size of all its tensors.

    Sizes are compared before anything is decoded, so that a record cannot make its receiver
    allocate more than the expected state does. ``expected`` may live on the meta device. Whatever
    differs, is not finite, or a negative variance, is InvalidContent.
    """
    found = names_in(record)
    order = list(expected)
    left_out: State = {}
    if held and held.keys() <= expected.keys() and held.keys().isdisjoint(found):
        left_out = held
        expected = {name: like for name, like in expected.items() if name not in held}
    odd = sorted(set(found) ^ set(expected))
    if odd:
        raise InvalidContent(f"the arrays' names are not those expected, e.g. {odd[0][:80]!r}")
    if len(found) != len(expected):
        raise InvalidContent("an array's name occurs twice")
    state: State = {}
    for key, array in record.items():
        names = key.split(_JOINT)
        likes = [expected[name] for name in names]
        kinds = {_NUMPY_NAMES.get(like.dtype, str(like.dtype)) for like in likes}
        shape = tuple(likes[0].shape) if len(names) == 1 else (sum(x.numel() for x in likes),)
        if array.dtype not in kinds or len(kinds) > 1 or tuple(array.shape) != shape:
            raise InvalidContent(
                f"{key[:80]!r} is {array.dtype}{list(array.shape)[:8]} instead of "
                f"{'/'.join(sorted(kinds))}{list(shape)}"
            )
        if len(array.data) > math.prod(shape) * likes[0].element_size() + _LONGEST_HEADER:
            raise InvalidContent(
                f"{key[:80]!r} carries {len(array.data)} bytes, too many for its shape"
            )
        values = _decoded(key[:80], array, array.dtype, shape)
        start = 0
        for name, like in zip(names, likes, strict=True):
            part = values if len(names) == 1 else values[start : start + like.numel()]
            # A torch tensor needs writable memory, and safetensors memory of its own.
            state[name] = torch.from_numpy(part.reshape(tuple(like.shape)).copy())
            start += like.numel()
    if broken := first_non_finite(state):
        raise InvalidContent(f"{broken!r} holds NaN or infinite values")
    for name, value in state.items():
        # Averaged into the global model, it would turn every later output into NaN.
        if name.endswith("running_var") and bool((value < 0).any()):
            raise InvalidContent(f"{name!r} holds a negative variance")
    return {name: left_out[name] if name in left_out else state[name] for name in order}


def _decoded(name: str, array: Array, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array, read-only, after its header was compared.

    ``np.load`` would believe the header: allocate whatever it says, or open a zip archive.
    """
    data = BytesIO(array.data)
    try:
        if array.stype != "numpy.ndarray":
            raise ValueError(f"serialised as {str(array.stype)[:40]!r}")
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(data)]
        header_shape, is_fortran, header_dtype = read_header(data, max_header_size=_LONGEST_HEADER)
    except Exception as error:  # numpy raises many kinds for bytes that are not an array
        raise InvalidContent(f"{name!r} cannot be decoded: {str(error)[:200]}") from error
    if (header_shape, header_dtype) != (shape, np.dtype(dtype)):
        raise InvalidContent(f"{name!r} decodes to another type or shape than it declares")
    size = len(array.data) - data.tell()
    if size != math.prod(shape) * header_dtype.itemsize:
        raise InvalidContent(f"{name!r} carries {size} bytes, not those of its shape")
    values = np.frombuffer(array.data, header_dtype, offset=data.tell())
    return values.reshape(shape, order="F" if is_fortran else "C")


def template(dtype: torch.dtype, *shape: int) -> Tensor:
    """Return a tensor without memory that says what :func:`from_record` must find."""
    return torch.empty(shape, dtype=dtype, device="meta")
