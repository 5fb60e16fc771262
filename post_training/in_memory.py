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

    Nothing is written anywhere: the steps done, the images and the notes are attributes.

    Parameters
    ----------
    model : nn.Module
        A classifier of the federation's architecture; copied, never changed.
    global_state : State
        The global model's state dictionary.
    local_models : Mapping[int, State]
        The clients' state dictionaries by index. Only one is held at a time, so a mapping that
        reads them from disk may be of any length.
    num_examples : Mapping[int, int]
        Training samples of each client.
    image_shape : tuple of int
        (C, H, W).
    classes : int
        Number of classes.
    label_counts : Mapping[int, sequence of int], optional
        (classes,) training labels of each client.
    pixel_range : pair of sequences of float, optional
        Lowest and highest value of a pixel, for each channel, in the models' input space.
    device : str or torch.device (default: "cpu")
        Where to compute.
    evaluate : callable, optional
        Gives a model's accuracy, for reports.
    progress : callable, optional
        Called with (what, done, total).
    ask : callable, optional
        Answers a question of :mod:`questions` for the clients; None where it cannot.
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
        """Return a new model that holds ``state``, in evaluation mode."""
        return load_state(copy.deepcopy(self._shell), state).to(self._device).eval()

    def label_counts(self) -> dict[int, list[int]] | None:
        """Return the label counts that were given."""
        if self._label_counts is None:
            return None
        return {
            client: list(self._label_counts[client])
            for client in self.local_models
            if client in self._label_counts
        }

    def ask(self, request: Request[Any, P]) -> P | None:
        """Return the answer of the function that was given."""
        return None if self._ask is None else self._ask(request)

    def evaluate(self, state: State, stage: str) -> float | None:
        """Measure a model with the function that was given."""
        return None if self._evaluate is None else self._evaluate(self.model(state))

    def round(self) -> bool:
        """There are no clients to train."""
        return False

    def pseudo_images(self, request: PseudoRequest) -> PseudoData:
        """Invert the local models one after the other."""
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
        """Keep an event, and log it."""
        self.events.append(event)
        say(event)

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        """Return a function that passes progress on."""
        passed_on = self._progress
        if passed_on is None:
            return lambda done, total: None
        return lambda done, total: passed_on(what, done, total)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time spent inside to :attr:`seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def done(self, step: str) -> bool:
        """Tell whether a step was carried out."""
        return step in self._done

    def commit(self, step: str) -> None:
        """Note that a step was carried out."""
        self._done.add(step)

    def offer(
        self, stage: str, state: State, *, needs_proof: bool = True, whole: bool = False
    ) -> None:
        """Take a state as a stage's result; there is no judge to prove anything to."""
        self.global_state = self.results[stage] = state
        self.record(Evaluated(stage, self.evaluate(state, stage), None, None, None, None))
