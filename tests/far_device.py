"""A device that cannot be read: what a GPU would be asked for, without a GPU.

Tensors on PyTorch's ``meta`` device have shapes and no values. While :class:`FarDevice` is entered,
they stand for tensors on an accelerator: every operation that mixes them with the host's tensors
fails, as it would there, and every read of a value, for which the host would have to wait, is
counted and answered with a made-up one.
"""

import contextlib
import traceback
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.docs.pages import ROOT

# In place, for many tensors in one launch; without an implementation for shapes alone.
_FUSED = ("aten::_fused_adam_", "aten::_fused_sgd_")
_READS = ("aten::_local_scalar_dense", "aten::item")
_COPIES = ("aten::_to_copy", "aten::to", "aten::copy_")
# The host must know how large the result is.
_SIZED_BY_VALUES = ("aten::bincount", "aten::nonzero", "aten::masked_select", "aten::_unique2")


class FarDevice(TorchDispatchMode):
    """See the module.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
        Takes autocast away, which knows no ``meta`` device.

    Attributes
    ----------
    reads : Counter
        How often a value was read, by the file of this project that did it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.name().split(".")[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        far = any(tensor.is_meta for tensor in tensors)
        if not far:
            return func(*args, **kwargs)
        if name in _READS:
            self._note()
            return 1.0
        if name in _SIZED_BY_VALUES:
            raise AssertionError(f"{name} makes the host wait for the device: {_place()}")
        if name in _COPIES:
            target = next(filter(_is_device, tree_leaves((args, kwargs))), args[0].device)
            if target.type == "cpu":
                self._note()
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            return func(*args, **kwargs)
        # A number on the host is passed with the launch.
        near = [tensor for tensor in tensors if not tensor.is_meta and tensor.dim() > 0]
        if near:
            raise AssertionError(f"{name} mixes devices: {_place()}")
        return None if name in _FUSED else func(*args, **kwargs)

    def _note(self) -> None:
        self.reads[_place()] += 1


def _is_device(leaf: Any) -> bool:
    return isinstance(leaf, torch.device)


def _place() -> str:
    """Name the innermost file of this project, outside the tests, that is being executed."""
    for frame in reversed(traceback.extract_stack()):
        path = frame.filename
        if path.startswith(f"{ROOT}/") and not path.startswith(
            (f"{ROOT}/tests/", f"{ROOT}/.venv/")
        ):
            return path.removeprefix(f"{ROOT}/")
    return "a test"
