"""Read weights out of files as people have them, told by what is in them and not by their name.

safetensors, and checkpoints of ``torch.save``, old and new, of which no code is run. Whatever else
is refused by what it is.
"""

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from foundation import UsageError

from .state import State

# Where training loops keep the weights in what they save, the ones to use first.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
_NO_WEIGHTS = {
    b"<": "a web page: what was downloaded is not the file, but a page about it",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with git lfs pull",
    b"\x89HDF": "an HDF5 file, such as Keras writes: its names are not PyTorch's",
    b"\x1f\x8b": "a compressed file: unpack it first",
    b"\x93NUMPY": "a NumPy array, without names",
    b"{": "a JSON file",
}
# What training loops put beside the weights: options and best figures, whose reading does nothing.
_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


class InitialWeightsError(UsageError):
    """Weights to start from cannot be read, or belong to another network."""


def read_checkpoint(path: Path) -> State:
    """Return the weights in a file by the names that it gives them.

    If there are none, an InitialWeightsError says what the file is or holds.
    """
    try:
        content = _content(path)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror or error}") from error
    while True:
        tensors = {
            name: value
            for name, value in content.items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
        held = [name for name, value in content.items() if isinstance(value, Mapping) and value]
        known = [name for name in _WRAPPERS if name in held]
        if known or (len(held) == 1 and not tensors):
            content = content[(known or held)[0]]
        elif tensors:
            return tensors
        else:
            names = ", ".join(map(repr, list(content)[:5])) or "nothing"
            raise _refused(path, f"holds no weights by name, but {names}")


def _refused(path: Path, reason: str) -> InitialWeightsError:
    return InitialWeightsError(f"initial-weights = {str(path)!r} {reason}")


def _content(path: Path) -> Mapping[Any, Any]:
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise _refused(path, "is empty")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**27:
        try:
            return load_file(path)
        except SafetensorError as error:
            raise _refused(path, f"cannot be read, as a safetensors file: {error}") from error
    for magic, what in _NO_WEIGHTS.items():
        if start.lstrip().startswith(magic):
            raise _refused(path, f"is {what}")
    if start[:2] == b"PK":
        _require_checkpoint(path)
    elif start[:1] != b"\x80":
        raise _refused(path, "cannot be read: it is neither safetensors nor a PyTorch checkpoint")
    return _unpickled(path)


def _require_checkpoint(path: Path) -> None:
    """Refuse zip files other than those of ``torch.save``."""
    try:
        with zipfile.ZipFile(path) as file:
            names = [name.rpartition("/")[2] for name in file.namelist()]
    except zipfile.BadZipFile as error:
        raise _refused(path, "cannot be read: it is damaged, or was not copied whole") from error
    if "constants.pkl" in names:
        raise _refused(path, "is a TorchScript program: save its state_dict() where it was made")
    if "data.pkl" not in names:
        raise _refused(path, "is a zip file without a PyTorch checkpoint")


def _unpickled(path: Path) -> Mapping[Any, Any]:
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own words recommend to load it unsafely.
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"objects of {foreign.group(1)}" if foreign else "more than tensors"
        raise _refused(
            path,
            f"holds {what}, which only their own code could read, and a file may bring any code: "
            "where it was made, save the weights alone with torch.save(model.state_dict(), FILE)",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise _refused(path, "cannot be read: it is damaged, or was not copied whole") from error
    if not isinstance(content, Mapping):
        raise _refused(path, f"holds no weights by name, but a {type(content).__name__}")
    return content
