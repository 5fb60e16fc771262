"""Between tensors and Flower's records: nothing that a peer sends is used before it is checked."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from models import State, first_non_finite

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


class InvalidContent(ValueError):
    """A message holds something else than its receiver needs; the text says what."""


def to_record(state: State) -> ArrayRecord:
    """Pack a state into an ArrayRecord."""
    return ArrayRecord(state)


def from_record(record: ArrayRecord, expected: State) -> State:
    """Unpack an ArrayRecord that must hold the same names, shapes and dtypes as ``expected``.

    The order of names may differ: a file that a state went through may have sorted them.

    Sizes are compared before anything is decoded, so that a record cannot make its receiver
    allocate more than the expected state does. ``expected`` may live on the meta device.

    Raises
    ------
    InvalidContent
        If anything differs, or a value is not finite.
    """
    odd = sorted(set(record) ^ set(expected))
    if odd:
        raise InvalidContent(f"the arrays' names are not those expected, e.g. {odd[0][:80]!r}")
    state: State = {}
    for name, like in expected.items():
        array = record[name]
        wanted = (_NUMPY_NAMES.get(like.dtype, str(like.dtype)), tuple(like.shape))
        if (array.dtype, tuple(array.shape)) != wanted:
            raise InvalidContent(
                f"{name!r} is {array.dtype}{list(array.shape)[:8]} instead of "
                f"{wanted[0]}{list(wanted[1])}"
            )
        if len(array.data) > math.prod(wanted[1]) * like.element_size() + _LONGEST_HEADER:
            raise InvalidContent(
                f"{name!r} carries {len(array.data)} bytes, too many for its shape"
            )
        state[name] = torch.from_numpy(_decoded(name, array, *wanted))
    broken = first_non_finite(state)
    if broken:
        raise InvalidContent(f"{broken!r} holds NaN or infinite values")
    return state


def _decoded(name: str, array: Array, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array in memory of its own, after its header was compared.

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
    content = array.data[data.tell() :]
    if len(content) != math.prod(shape) * header_dtype.itemsize:
        raise InvalidContent(f"{name!r} carries {len(content)} bytes, not those of its shape")
    # A torch tensor needs writable memory.
    values = np.frombuffer(bytearray(content), header_dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")


def template(dtype: torch.dtype, *shape: int) -> Tensor:
    """Return a tensor without memory that says what :func:`from_record` must find."""
    return torch.empty(shape, dtype=dtype, device="meta")
