"""CUDA graphs, without a GPU: what a step asks the processor for is noted, undone, and replayed.

As on a GPU, what is recorded is not done: tensors that were there before have the values that they
had. A replay takes the same operations on the same tensors; Python does nothing in it. A step that
reads a value cannot be recorded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foundation import capture

_READS = ("aten::_local_scalar_dense", "aten::item")


class FakeGraphs:
    """Stands for ``capture.CudaGraphs``; ``told`` is what it was told, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        monkeypatch.setitem(capture.RECORDERS, "cpu", lambda device: self)

    @contextmanager
    def entered(self) -> Iterator[None]:
        self.told.append("entered")
        yield
        self.told.append("left")

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.told.append("recorded")
        tape = _Tape()
        try:
            with tape:
                result = run()
        finally:
            tape.undo()

        def replay() -> None:
            self.told.append("replayed")
            tape.replay()

        return replay, result


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, Any]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.name().split(".")[0] in _READS:
            raise RuntimeError("operation not permitted when stream is capturing")
        for tensor in _tensors((args, kwargs)):
            if id(tensor) not in self._made and id(tensor) not in self._before:
                self._before[id(tensor)] = (tensor, tensor.detach().clone())
        result = func(*args, **(kwargs or {}))
        self._made.update(map(id, _tensors(result)))
        self._operations.append((func, args, kwargs or {}, result))  # which keeps them alive
        return result

    @torch.no_grad()
    def undo(self) -> None:
        for tensor, value in self._before.values():
            tensor.detach().copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self._operations:
            for then, now in zip(_tensors(result), _tensors(func(*args, **kwargs)), strict=True):
                then.detach().copy_(now)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
