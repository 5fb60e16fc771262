"""A trained federation as plain state dictionaries: what a method sees where there is no run."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from foundation.events.family import Evaluated, Event
from foundation.events.log import say
from foundation.models import State, load_state
from generation import PseudoData

from .trained import Inputs, PseudoRequest, inverted


@dataclass
class TrainedModels:
    """Implements :class:`post_training.Trained` over models in memory, or read when asked for.

    Nothing is written anywhere: images by the step that made them, events, results by stage and
    seconds by name are attributes. ``shell`` is a model of the federation's architecture, of which
    copies are worked on; ``evaluator``, ``shown`` and ``ask`` are the ``evaluate``, ``progress``
    and ``ask`` of :func:`.library.post_train`.
    """

    shell: nn.Module
    global_state: State
    local_models: Mapping[int, State]
    num_examples: Mapping[int, int]
    inputs: Inputs
    counts: Mapping[int, Sequence[int]] | None = None
    device: str | torch.device = "cpu"
    evaluator: Callable[[nn.Module], float] | None = None
    shown: Callable[[str, int, int], None] | None = None
    ask: Callable[[Any], Any] = lambda request: None
    store: dict[str, PseudoData] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    results: dict[str, State] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    steps: set[str] = field(default_factory=set)

    def begin_method(self) -> None:
        """Forget the steps and images of the method before; its result stays."""
        self.store = {}
        self.steps = set()

    def model(self, state: State) -> nn.Module:
        return load_state(copy.deepcopy(self.shell), state).to(self.device).eval()

    def label_counts(self) -> dict[int, list[int]] | None:
        if self.counts is None:
            return None
        return {c: list(self.counts[c]) for c in self.local_models if c in self.counts}

    def evaluate(self, state: State, stage: str) -> float | None:
        return None if self.evaluator is None else self.evaluator(self.model(state))

    def round(self) -> bool:
        return False

    def pseudo_images(self, request: PseudoRequest) -> PseudoData:
        started = time.perf_counter()
        made = inverted(self, request, self.device)
        self.record(request.event(made, time.perf_counter() - started))
        return made.data

    def record(self, event: Event) -> None:
        self.events.append(event)
        say(event)

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        shown = self.shown
        return lambda done, total: None if shown is None else shown(what, done, total)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def done(self, step: str) -> bool:
        return step in self.steps

    def commit(self, step: str) -> None:
        self.steps.add(step)

    def offer(
        self, stage: str, state: State, *, needs_proof: bool = True, whole: bool = False
    ) -> None:
        self.global_state = self.results[stage] = state
        self.record(Evaluated(stage, self.evaluate(state, stage), None, None, None, None))
