"""A trained federation as plain state dictionaries: what a method sees where there is no run."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from foundation.events.family import Evaluated, Event, ImagesMade, failures_of
from foundation.events.log import say
from foundation.models import State, load_state
from generation import PseudoData
from questions import Request

from .trained import Inputs, PseudoRequest, inverted

log = logging.getLogger("flwr.fedf2dg")

P = TypeVar("P")


class TrainedModels:
    """Implements :class:`post_training.Trained` over models in memory, or read when asked for.

    Nothing is written anywhere: images, events, results and seconds are attributes. Of ``model`` a
    copy is worked on; ``local_models`` may be of any length, as one is held at a time. The rest is
    as in :func:`.library.post_train`.
    """

    def __init__(
        self,
        model: nn.Module,
        global_state: State,
        local_models: Mapping[int, State],
        num_examples: Mapping[int, int],
        *,
        image_shape: tuple[int, int, int],
        classes: int,
        label_counts: Mapping[int, Sequence[int]] | None = None,
        pixel_range: tuple[Sequence[float], Sequence[float]] | None = None,
        device: str | torch.device = "cpu",
        evaluate: Callable[[nn.Module], float] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        ask: Callable[[Any], Any] | None = None,
    ) -> None:
        self._shell = copy.deepcopy(model)
        self.global_state = dict(global_state)
        self.local_models = local_models
        self.num_examples = num_examples
        self.inputs = Inputs(image_shape, classes, pixel_range)
        self._label_counts = label_counts
        self._device = torch.device(device)
        self._evaluate = evaluate
        self._progress = progress
        self._ask = ask
        #: Pseudo images by the step that made them.
        self.store: dict[str, PseudoData] = {}
        #: Events, in their order.
        self.events: list[Event] = []
        #: Results by stage.
        self.results: dict[str, State] = {}
        #: Seconds spent, by name.
        self.seconds: dict[str, float] = {}
        self._done: set[str] = set()

    def begin_method(self) -> None:
        """Forget the steps and images of the method before; its result stays."""
        self.store = {}
        self._done = set()

    def model(self, state: State) -> nn.Module:
        return load_state(copy.deepcopy(self._shell), state).to(self._device).eval()

    def label_counts(self) -> dict[int, list[int]] | None:
        if self._label_counts is None:
            return None
        return {
            client: list(self._label_counts[client])
            for client in self.local_models
            if client in self._label_counts
        }

    def ask(self, request: Request[Any, P]) -> P | None:
        return None if self._ask is None else self._ask(request)

    def evaluate(self, state: State, stage: str) -> float | None:
        return None if self._evaluate is None else self._evaluate(self.model(state))

    def round(self) -> bool:
        return False

    def pseudo_images(self, request: PseudoRequest) -> PseudoData:
        started = time.perf_counter()
        generated = inverted(self, request, self._device)
        self.record(
            ImagesMade(
                request.kind,
                request.repetition,
                request.batch,
                len(generated.data),
                request.inversion.iterations,
                generated.objective,
                time.perf_counter() - started,
                failures=failures_of(generated.failures),
            )
        )
        return generated.data

    def record(self, event: Event) -> None:
        self.events.append(event)
        say(event)

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        passed_on = self._progress
        if passed_on is None:
            return lambda done, total: None
        return lambda done, total: passed_on(what, done, total)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def done(self, step: str) -> bool:
        return step in self._done

    def commit(self, step: str) -> None:
        self._done.add(step)

    def offer(
        self, stage: str, state: State, *, needs_proof: bool = True, whole: bool = False
    ) -> None:
        self.global_state = self.results[stage] = state
        self.record(Evaluated(stage, self.evaluate(state, stage), None, None, None, None))
