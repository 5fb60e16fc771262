"""A step that is taken over and over, recorded once for each shape of its inputs and replayed.

A training step of a small network is some hundred kernels of a few microseconds. To start them one
by one from Python takes longer than they take; a CUDA graph starts them all at once. What is
replayed is what the step asked the device for while it was recorded. So a step has to

- change tensors in place, and leave them where they are;
- read no value from the device, for which the host would have to wait;
- do the same each time: whatever else Python does in it happens no more.

A processor records nothing: there, a step is called as it is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from foundation.errors import warn_once

#: The environment variable that, set to off, has every step called as it is.
SWITCH = "FEDF2DG_CUDA_GRAPHS"

# Steps of a shape that are taken as they are. The first makes what lasts, such as momenta and the
# workspaces of libraries, which must not be part of a recording; the second uses it.
WARM_UP = 2

T = TypeVar("T")


class Capturable:
    """The base of hooks in a step, which are recorded with it if their class allows it.

    ``class Mine(Base, capturable=True)`` says that its methods do what a recorded step may (see the
    module). A subclass says it anew, since nobody knows what it adds.
    """

    capturable: ClassVar[bool] = False

    def __init_subclass__(cls, capturable: bool = False, **named: Any) -> None:
        super().__init_subclass__(**named)
        cls.capturable = capturable


class Recorder(Protocol):
    """What records and replays: CUDA's graphs, or a stand-in of a test."""

    def entered(self) -> AbstractContextManager[None]:
        """Make ready for steps, recordings and replays, which happen inside."""
        ...

    def record(self, run: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """Note what ``run`` asks the device for, and return what does it, and its result.

        The result's values are there after the first replay.

        Raises
        ------
        RuntimeError
            If something in it cannot be recorded.
        """
        ...


class CudaGraphs:
    """Records CUDA graphs on a stream of their own, in memory that one hands on to the next."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._last: torch.cuda.CUDAGraph | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work on the stream: what libraries prepare for it is then there when it records."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outside.wait_stream(self._stream)

    def record(self, run: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """Record one in the memory of the last; see :class:`Recorder`."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._device)
        # A recording cannot use what other steps left in PyTorch's cache.
        torch.cuda.empty_cache()
        # Graphs that are never replayed at the same time can share memory.
        pool = None if self._last is None else self._last.pool()
        # Other threads of this process may go on using the device.
        graph.capture_begin(pool, capture_error_mode="thread_local")
        try:
            result = run()
        except BaseException:
            with suppress(RuntimeError):  # which says no more than that there was an error
                graph.capture_end()
            raise
        graph.capture_end()
        self._last = graph
        return graph.replay, result


@cache
def cuda_graphs(device: torch.device) -> CudaGraphs:
    """Return what records on a GPU; forgotten, with its memory, by ``cache_clear``."""
    return CudaGraphs(device)


#: What records on a kind of device.
RECORDERS: dict[str, Callable[[torch.device], Recorder]] = {"cuda": cuda_graphs}


@contextmanager
def captured(
    step: Callable[..., T], device: torch.device, obstacle: str = ""
) -> Iterator[Callable[..., T]]:
    """Give a step to call in a loop, recorded where the device can do that.

    Parameters
    ----------
    step : callable
        A function of tensors on the device that does what the module says. What it returns is
        overwritten by its next call.
    obstacle : str
        Why it must not be recorded, for the log; empty if it may.
    """
    make = RECORDERS.get(device.type)
    if make is None or os.environ.get(SWITCH) == "off":
        yield step
    elif obstacle:
        _say_why(obstacle)
        yield step
    else:
        recorder = make(device)
        with recorder.entered():
            yield _Captured(step, recorder)


class _Captured(Generic[T]):
    def __init__(self, step: Callable[..., T], recorder: Recorder) -> None:
        self._step = step
        self._recorder = recorder
        self._taken: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, tuple[list[Tensor], Callable[[], None], T]] = {}
        self._recordable = True

    def __call__(self, *inputs: Tensor) -> T:
        shapes = tuple((value.shape, value.dtype) for value in inputs)
        if shapes not in self._recordings:
            self._taken[shapes] += 1
            if self._recordable and self._taken[shapes] > WARM_UP:
                self._record(shapes, inputs)
        if shapes not in self._recordings:
            return self._step(*inputs)
        buffers, replay, result = self._recordings[shapes]
        for buffer, value in zip(buffers, inputs, strict=True):
            buffer.copy_(value)
        replay()
        return result

    def _record(self, shapes: Hashable, inputs: tuple[Tensor, ...]) -> None:
        buffers = [value.detach().clone() for value in inputs]
        try:
            recorded = self._recorder.record(lambda: self._step(*buffers))
        except RuntimeError as error:  # CUDA's errors are, too
            self._recordable = False
            _say_why(str(error).strip().partition("\n")[0] or type(error).__name__)
        else:
            self._recordings[shapes] = (buffers, *recorded)


def _say_why(reason: str) -> None:
    warn_once(f"steps are started one by one, without CUDA graphs, which is slower: {reason}")
