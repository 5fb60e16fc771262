"""A step that is taken over and over, recorded once for each shape of its inputs and replayed.

A training step of a small network is some hundred kernels of a few microseconds. To start them one
by one from Python takes longer than they take; a CUDA graph starts them all at once. What is
replayed is what the step asked the device for while it was recorded. So a step has to

- change tensors in place, and leave them where they are;
- read no value from the device, for which the host would have to wait;
- do the same each time: whatever else Python does in it happens no more.

Whether it does is tried out: with each recording a step is taken both ways, from the same start. A
processor records nothing: there, a step is called as it is.
"""

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from foundation.errors import warn_once
from foundation.seeds import draw_from, drawn_on, drawn_on_processor

#: The environment variable that, set to off, has every step called as it is.
SWITCH = "FEDF2DG_CUDA_GRAPHS"

# Steps of a shape that are taken as they are. The first makes what lasts, such as momenta and the
# workspaces of libraries, which must not be part of a recording; the second uses it.
WARM_UP = 2

# How far a replay may end from the step, of how far the step goes: sums of products in bfloat16 may
# come in any order. What reads memory that is no longer its own ends anywhere. The second is of
# the values' size, where the step goes nowhere.
_APART, _ROUNDING = 0.1, 1e-6

# What PyTorch calls it, and what it called it before.
_END_ALLOCATING = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")

#: Steps that could not be recorded, by name: they are not tried again in this process.
GIVEN_UP: set[str] = set()

T = TypeVar("T")

#: The tensors that a step changes, by what they are.
Changes = Mapping[str, Iterable[Tensor]]


class Capturable:
    """The base of hooks in a step, which are recorded with it if their class allows it.

    ``class Mine(Base, capturable=True)`` says that its methods do what a recorded step may (see the
    module). A subclass says it anew, since nobody knows what it adds.
    """

    capturable: ClassVar[bool] = False

    def __init_subclass__(cls, capturable: bool = False, **named: Any) -> None:
        super().__init_subclass__(**named)
        cls.capturable = capturable

    def changed_in_place(self) -> Iterable[Tensor]:
        """Return the tensors of its own that its methods change, if it has such."""
        return ()


class Recorder(Protocol):
    """What records and replays: CUDA's graphs, or a stand-in of a test."""

    def entered(self) -> AbstractContextManager[None]:
        """Make ready for steps, recordings and replays, which happen inside."""
        ...

    def record(self, run: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """Note what ``run`` asks the device for, and return what does it, and its result.

        The result's values are there after the first replay. A RuntimeError says that something in
        it cannot be recorded.
        """
        ...


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    # One for good: cuBLAS keeps up to 32 MiB for each stream and thread that ever used it.
    return torch.cuda.Stream(device)


class CudaGraphs:
    """Records CUDA graphs on a stream of their own, in memory that one hands on to the next."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _stream(device)
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
        pool = self._last.pool() if self._last else torch.cuda.graph_pool_handle()
        # Other threads of this process may go on using the device.
        graph.capture_begin(pool, capture_error_mode="thread_local")
        try:
            result = run()
        except BaseException:
            with suppress(RuntimeError):  # which says no more than that there was an error
                _end(graph, pool)
            raise
        _end(graph, pool)
        self._last = graph
        return graph.replay, result


def _end(graph: torch.cuda.CUDAGraph, pool: Any) -> None:
    try:
        graph.capture_end()
    except RuntimeError:
        # CUDA has ended it, and PyTorch's allocator has not: nobody in this process could empty
        # its cache any more. There is no public way.
        device = torch.cuda.current_device()
        with suppress(RuntimeError):  # it was ended
            for name in _END_ALLOCATING:
                if hasattr(torch._C, name):
                    getattr(torch._C, name)(device, pool)
                    break
            torch._C._cuda_releasePool(device, pool)
        raise


@cache
def cuda_graphs(device: torch.device) -> CudaGraphs:
    """Return what records on a GPU; forgotten, with its memory, by ``cache_clear``."""
    return CudaGraphs(device)


#: What records on a kind of device.
RECORDERS: dict[str, Callable[[torch.device], Recorder]] = {"cuda": cuda_graphs}


@contextmanager
def captured(
    step: Callable[..., T],
    device: torch.device,
    changes: Callable[[], Changes],
    obstacle: str = "",
) -> Iterator[Callable[..., T]]:
    """Give a step to call in a loop, recorded where the device can do that.

    The step is a function of tensors on the device that does what the module says. What it returns,
    a tensor, several, or None, is overwritten by its next call. ``changes`` returns all tensors
    that it changes and that last to the next one. An ``obstacle`` says why it must not be recorded.
    """
    make = RECORDERS.get(device.type)
    if make is None or os.environ.get(SWITCH) == "off":
        yield step
    elif obstacle:
        _say_why(obstacle)
        yield step
    elif _name(step) in GIVEN_UP:
        yield step
    else:
        recorder = make(device)
        with recorder.entered():
            yield _Captured(step, recorder, changes)


class _Captured(Generic[T]):
    def __init__(
        self, step: Callable[..., T], recorder: Recorder, changes: Callable[[], Changes]
    ) -> None:
        self._step = step
        self._recorder = recorder
        self._changes = changes
        self._taken: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, tuple[list[Tensor], Callable[[], None], T]] = {}
        self._recordable = True

    def __call__(self, *inputs: Tensor) -> T:
        shapes = tuple((value.shape, value.dtype) for value in inputs)
        if shapes not in self._recordings:
            self._taken[shapes] += 1
            if self._recordable and self._taken[shapes] > WARM_UP:
                return self._recorded(shapes, inputs)
            return self._step(*inputs)
        buffers, replay, result = self._recordings[shapes]
        for buffer, value in zip(buffers, inputs, strict=True):
            buffer.copy_(value)
        replay()
        return result

    def _recorded(self, shapes: Hashable, inputs: tuple[Tensor, ...]) -> T:
        """Take the step as it is; record it, if a replay from the same start comes to the same."""
        changes = {name: list(tensors) for name, tensors in self._changes().items()}
        before, drawn = _copies(changes), drawn_on(inputs[0].device)
        # First: after the recording, the device would have to hold the step's memory twice.
        taken = self._step(*inputs)
        after = _copies(changes)
        buffers = [value.detach().clone() for value in inputs]
        on_processor = drawn_on_processor()
        try:
            replay, result = self._recorder.record(lambda: self._step(*buffers))
        except RuntimeError as error:  # CUDA's errors are, too
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            self._give_up(reason, for_good=not isinstance(error, torch.OutOfMemoryError))
            return taken
        if drawn_on_processor() != on_processor:
            self._give_up("it draws random numbers on the processor, and a replay would not")
            return taken
        _put(before, changes)
        draw_from(drawn, inputs[0].device)
        replay()
        replayed = _copies({**changes, **_parts(result)})
        _put(after, changes)
        ends = {**changes, **_parts(taken)}
        different = [
            name
            for name, tensors in ends.items()
            if not _near(replayed[name], tensors, before.get(name, []))
        ]
        if different:
            self._give_up(f"its replay comes to another {' and '.join(different)}")
        else:
            self._recordings[shapes] = (buffers, replay, result)
        return taken

    def _give_up(self, reason: str, for_good: bool = True) -> None:
        self._recordable = False
        if for_good:
            GIVEN_UP.add(_name(self._step))
        _say_why(reason)


def _name(step: Callable[..., object]) -> str:
    return getattr(step, "__qualname__", type(step).__qualname__)


def _parts(result: object) -> dict[str, list[Tensor]]:
    parts = result if isinstance(result, tuple) else (result,)
    tensors = (part for part in parts if isinstance(part, Tensor))
    return {f"result {number}": [tensor] for number, tensor in enumerate(tensors, start=1)}


def _copies(changes: Mapping[str, Sequence[Tensor]]) -> dict[str, list[Tensor]]:
    return {
        name: [tensor.detach().clone() for tensor in tensors] for name, tensors in changes.items()
    }


def _put(values: Mapping[str, Sequence[Tensor]], into: Mapping[str, Sequence[Tensor]]) -> None:
    for name, tensors in into.items():
        for tensor, value in zip(tensors, values[name], strict=True):
            tensor.detach().copy_(value)


def _near(replayed: Sequence[Tensor], taken: Sequence[Tensor], before: Sequence[Tensor]) -> bool:
    """Tell whether a replay ends, with all its tensors together, about where the step does.

    Where the step itself makes no finite numbers, nothing can be told.
    """
    nothing = [torch.zeros_like(value) for value in taken]
    size, went = _distance(nothing, taken), _distance(before or nothing, taken)
    near = _distance(replayed, taken) <= _APART * went + _ROUNDING * size
    return bool(near | ~size.isfinite())


@torch.no_grad()
def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    parts = [(b.double() - a.double()).norm() for a, b in zip(first, second, strict=True)]
    return torch.stack(parts).norm() if parts else torch.zeros(())


def _say_why(reason: str) -> None:
    warn_once(f"steps are started one by one, without CUDA graphs, which is slower: {reason}")
