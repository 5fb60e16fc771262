"""Inverting several models: one after the other, or shared out over processes."""

import copy
import math
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foundation.models import fit_threads, resolve_device
from foundation.processes import Workers, threads
from foundation.settings import InversionSettings

from .acceleration import forward_operations
from .engine import Inversion, InversionEngine, PixelRange, Progress, UninvertibleModel


@dataclass(frozen=True)
class Order:
    """One client's model to invert, for wanted classes `labels`: (n,) integers, n >= 1."""

    client: int
    model: nn.Module
    labels: Tensor
    seed: int


@dataclass(frozen=True)
class Conditions:
    """What all inversions have in common; see :class:`InversionEngine`."""

    image_shape: tuple[int, int, int]
    settings: InversionSettings
    global_model: nn.Module | None
    pixel_range: PixelRange | None
    device: str | torch.device
    expected_images: int

    def engine(self, model: nn.Module) -> InversionEngine:
        """Return an engine for models of this architecture."""
        return InversionEngine(model, **vars(self))


# Notes how many iterations a client's number of images has had.
_Count = Callable[..., None]


def invert_all(
    orders: Iterable[Order],
    conditions: Conditions,
    progress: Progress | None,
    workers: Workers | None,
) -> Iterator[tuple[int, Inversion | UninvertibleModel]]:
    """Yield (client, inversion) of every order, as they are done.

    One model that cannot be inverted does not keep the others from it: its error is yielded. Orders
    may come from a generator; one is taken when something is free to carry it out. `progress` is
    called with (done, total) in image-iterations: images times optimizer steps. `workers` are
    processes to share the orders over; what is computed is the same, up to rounding where they use
    another number of threads.
    """
    total, done = conditions.expected_images * conditions.settings.iterations, dict[int, int]()

    def count(client: int, images: int, iteration: int, _: int = 0) -> None:
        done[client] = images * iteration
        if progress is not None:
            progress(sum(done.values()), total)

    if workers is None:
        yield from _one_by_one(orders, conditions, count)
    else:
        yield from _shared_out(orders, conditions, count, workers)


def _one_by_one(
    orders: Iterable[Order], conditions: Conditions, count: _Count
) -> Iterator[tuple[int, Inversion | UninvertibleModel]]:
    engine: InversionEngine | None = None
    try:
        for order in orders:
            engine = engine or conditions.engine(order.model)
            report = partial(count, order.client, len(order.labels))
            try:
                inversion = engine.invert(
                    order.model, order.labels, seed=order.seed, progress=report
                )
            except UninvertibleModel as error:
                report(conditions.settings.iterations)
                yield order.client, error
            else:
                yield order.client, inversion
    finally:
        if engine is not None:
            engine.close()


def _shared_out(
    orders: Iterable[Order], conditions: Conditions, count: _Count, workers: Workers
) -> Iterator[tuple[int, Inversion | UninvertibleModel]]:
    job = uuid.uuid4().hex
    # Compiling, too, is done by each process.
    conditions = replace(
        conditions,
        global_model=conditions.global_model and _to_send(conditions.global_model),
        expected_images=math.ceil(conditions.expected_images / workers.count),
    )
    own: dict[str, tuple[int, int]] = {}
    waiting = iter(orders)
    left = True
    while left or own:
        while left and workers.free > 0:
            order = next(waiting, None)
            if order is None:
                left = False
                break
            key = f"{job}-{order.client}"
            # A copy at once: the same module may hold the next client's weights in a moment.
            sent = replace(order, model=_to_send(order.model))
            workers.submit(key, _carry_out, job, conditions, sent)
            own[key] = (order.client, len(order.labels))
        for event in workers.events():
            if event.key not in own:
                continue  # something else that the same processes were told to do
            client, images = own[event.key]
            if isinstance(event.error, UninvertibleModel):
                del own[event.key]
                count(client, images, conditions.settings.iterations)
                yield client, event.error
                continue
            if event.error is not None:
                workers.close()  # what the others are doing is of no use any more
                raise event.error
            if event.done:
                del own[event.key]
                yield client, event.value
            else:
                count(client, images, event.value)


def _to_send(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU: another process may compute on another GPU."""
    return copy.deepcopy(model).cpu()


_resident: tuple[str, InversionEngine] | None = None
"""In a worker: the engine of the job it is part of, kept for the next order."""


def _carry_out(report: Any, job: str, conditions: Conditions, order: Order) -> Inversion:
    global _resident
    if _resident is None or _resident[0] != job:
        if _resident is not None:
            _resident[1].close()
        fit_threads(forward_operations(order.model, conditions.image_shape), threads())
        # The device by name: with several GPUs, "cuda" is another one in each process.
        here = replace(conditions, device=resolve_device(str(conditions.device)))
        _resident = (job, here.engine(order.model))
    engine = _resident[1]
    return engine.invert(
        order.model, order.labels, seed=order.seed, progress=lambda iteration, _: report(iteration)
    )
