"""Post-training as a function of models: for anybody's federated learning, without a run."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from foundation.data import Normalization
from foundation.errors import log
from foundation.events.family import Evaluated, Event
from foundation.events.log import say
from foundation.events.reading import to_json
from foundation.models import State, cpu_state, device_of, load_state, resolve_device
from foundation.progress import timed
from foundation.settings.configuration import (
    ConfigurationError,
    RunConfiguration,
    flatten,
    key_table,
)
from foundation.settings.post_training import methods_for
from generation import PseudoData
from questions.class_statistics import ClassStatistics, StatisticsRequest

from .method import Settings, chosen
from .trained import Inputs, PseudoRequest, ReadWhenAsked, inverted


class _Arrays(Protocol):
    """What Flower's ``ArrayRecord`` offers."""

    def to_torch_state_dict(self) -> Mapping[str, Tensor]:
        """Return the state dictionary."""


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
    #: The clients' numbers, where they are not those from 0 on.
    numbers: Sequence[int] = ()

    def begin_method(self) -> None:
        """Forget the steps and images of the method before; its result stays."""
        self.store = {}
        self.steps = set()

    def model(self, state: State) -> nn.Module:
        return load_state(copy.deepcopy(self.shell), state).to(self.device).eval()

    @property
    def names(self) -> dict[int, str]:
        return {c: f"client {self.numbers[c] if self.numbers else c}" for c in self.local_models}

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
        self.record(request.event(made, time.perf_counter() - started, self.names))
        return made.data

    def record(self, event: Event) -> None:
        self.events.append(event)
        say(event)

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        shown = self.shown
        return lambda done, total: None if shown is None else shown(what, done, total)

    def timed(self, name: str) -> AbstractContextManager[None]:
        return timed(self.seconds, name)

    def done(self, step: str) -> bool:
        return step in self.steps

    def commit(self, step: str) -> None:
        self.steps.add(step)

    def offer(
        self, stage: str, state: State, *, needs_proof: bool = True, whole: bool = False
    ) -> None:
        self.global_state = self.results[stage] = state
        self.record(Evaluated(stage, self.evaluate(state, stage), None, None, None, None))


@dataclass(frozen=True)
class PostTrained:
    """What :func:`post_train` made.

    By stage, in their order: ``stages`` are the results, the last one being ``state``, and
    ``accuracy`` what ``evaluate`` said of them. ``images`` are the pseudo images by the step that
    made them; their sources count the clients from 0 on, in the order of their numbers. ``seconds``
    say where the time went, ``events`` all that happened, as a run's ``metrics.jsonl`` has it.
    """

    state: State
    stages: dict[str, State]
    accuracy: dict[str, float | None]
    images: dict[str, PseudoData]
    seconds: dict[str, float]
    events: list[dict[str, Any]]


def post_train(
    model: nn.Module,
    global_state: Mapping[str, Tensor] | _Arrays,
    local_models: Mapping[int, Mapping[str, Tensor]],
    num_examples: Mapping[int, int] | None = None,
    *,
    image_shape: tuple[int, int, int],
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    pixel_range: tuple[Sequence[float], Sequence[float]] | None = None,
    label_counts: Mapping[int, Sequence[int]] | None = None,
    method: str = "calibration",
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    seed: int = 0,
    evaluate: Callable[[nn.Module], float] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    ask: Callable[[StatisticsRequest], ClassStatistics | None] | None = None,
) -> PostTrained:
    """Improve a federated model after training, from the local models alone: no data are needed.

    Parameters
    ----------
    model : nn.Module
        Any image classifier of the federation's architecture, whose output are logits
        (n, classes). Best with BatchNorm layers, whose statistics the images are made to match. Its
        weights do not matter, and it is not changed.
    global_state : state dictionary, or Flower's ArrayRecord
        The global model after the last round.
    local_models : Mapping[int, state dictionary]
        The clients' models of the last round, by whatever number the clients have. Read one at a
        time, so a mapping that reads files will do: ``KeepLocalModels(…).kept`` is one.
    num_examples : Mapping[int, int], optional
        Training samples of each client; None: ``local_models.num_examples``.
    image_shape : tuple of int
        (C, H, W) of the model's input.
    normalization : (mean, std), optional
        Per channel, if inputs are images in [0, 1], normalised with them: pixels of pseudo images
        then stay where real ones are, which makes better images.
    pixel_range : (lowest, highest), optional
        Per channel, instead of ``normalization``.
    label_counts : Mapping[int, sequence of int], optional
        (classes,) training labels of each client; None: labels are drawn evenly.
    method : str (default: "calibration")
        The methods to run, as the key ``post-training`` names them: "calibration", "fedf2dg",
        "fedf2dg,calibration", "auto". There are no clients to train here, so FedF²DG ends with its
        first distillation.
    settings : Mapping, optional
        Keys of the sections of post-training, as in a run:
        ``{"generation.iterations": 200, "distillation.learning-rate": 0.002}``.
    device : str (default: "auto")
        Where to compute: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    seed : int (default: 0)
        All randomness depends on it.
    evaluate : callable, optional
        Gives the accuracy of a model in evaluation mode, for ``PostTrained.accuracy`` and events.
        Nothing is chosen by it.
    progress : callable, optional
        Called with (what, done, total).
    ask : callable, optional
        Answers for the clients what a model says of their training images, added up over them;
        ``fedf2dg.AskClients`` is one. Calibration then corrects the bias from their predictions
        instead of pseudo images; "auto" chooses calibration for images of 16 pixels a side or more.

    Returns
    -------
    PostTrained
        The result and how it came about.

    Raises
    ------
    ConfigurationError
        If a setting cannot work.
    ValueError
        If models, counts and shapes do not go together. Both before any work.
    """
    configuration = _configuration(settings or {}, seed, method)
    # Clients that answer tell how many images of each class they have, too.
    counts_told = label_counts is not None or ask is not None
    names = methods_for(method, image_shape[1:], counts_told)
    methods = chosen(names)
    expected = cpu_state(model)
    state = _as_state(global_state, expected)
    given = getattr(local_models, "num_examples", None) if num_examples is None else num_examples
    if given is None:
        raise ValueError("num_examples is missing, and local_models does not say it")
    clients = _checked_clients(local_models, given)
    model_copy = load_state(copy.deepcopy(model), state)
    classes = _count_classes(model_copy, image_shape)
    told = getattr(ask, "classes", classes)
    if told != classes:
        raise ValueError(f"the clients are asked about {told} classes, and the model has {classes}")
    if ask is not None and not any(member.name == "calibration" for member in methods):
        chose = "" if names == method else f", which {method} chooses for images of this size"
        log.warning("no client is asked: that is for method=calibration, not %s%s", names, chose)
    sections = Settings.of(configuration)
    for member in methods:
        if member.suits is not None:
            member.suits(model_copy, sections)
    # Methods count clients from 0 on; here they have whatever numbers they have.
    trained = TrainedModels(
        model_copy,
        state,
        ReadWhenAsked(
            range(len(clients)), lambda index: _as_state(local_models[clients[index]], expected)
        ),
        {index: int(given[client]) for index, client in enumerate(clients)},
        Inputs(image_shape, classes, _pixel_range(normalization, pixel_range)),
        counts=_checked_counts(label_counts, clients, classes),
        device=resolve_device(device),
        evaluator=evaluate,
        shown=progress,
        ask=ask or (lambda request: None),
        numbers=clients,
    )
    images: dict[str, PseudoData] = {}
    for member in methods:
        trained.begin_method()
        member.run(trained, sections)
        images.update({member.prefix + step: data for step, data in trained.store.items()})
    return PostTrained(
        trained.global_state,
        trained.results,
        {e.stage: e.accuracy for e in trained.events if isinstance(e, Evaluated)},
        images,
        trained.seconds,
        [{"event": event.event, **to_json(event)} for event in trained.events],
    )


def _as_state(given: Any, expected: State) -> State:
    """Return a state dictionary, whether it is one or Flower's record of one, in the model's types.

    An average of counters, as Flower makes it, is no whole number any more.
    """
    state = given.to_torch_state_dict() if hasattr(given, "to_torch_state_dict") else given
    return {
        name: value.to(expected[name].dtype) if name in expected else value
        for name, value in state.items()
    }


def _configuration(settings: Mapping[str, Any], seed: int, method: str) -> RunConfiguration:
    flat = flatten(settings)
    behind_training = {
        f"{name.partition('.')[0]}."
        for name, _, info in key_table({"post-training": method})
        if "." in name and info.binds not in ("run", "train")
    }
    for name in flat:
        if not name.startswith(tuple(behind_training)):
            raise ConfigurationError(
                f"{name!r} says nothing about post-training; the keys begin with "
                f"{', '.join(sorted(behind_training))}"
            )
        if name == "generation.place":
            raise ConfigurationError("generation.place is for runs: there are no clients here")
    return RunConfiguration.parse({**flat, "seed": seed, "post-training": method})


def _checked_clients(models: Mapping[int, Any], num_examples: Mapping[int, int]) -> list[int]:
    """Return the clients in ascending order, or refuse models and counts of different ones."""
    clients = sorted(models)
    if not clients:
        raise ValueError("local_models is empty: there is nothing to learn from")
    without = [client for client in clients if not num_examples.get(client, 0) > 0]
    if without:
        raise ValueError(f"num_examples has no positive number for clients {without}")
    return clients


def _checked_counts(
    counts: Mapping[int, Sequence[int]] | None, clients: Sequence[int], classes: int
) -> dict[int, list[int]] | None:
    if counts is None:
        return None
    for client in clients:
        row = list(counts.get(client, ()))
        if len(row) != classes or min(row) < 0 or sum(row) == 0:
            raise ValueError(
                f"label_counts of client {client} are {row}: {classes} numbers are needed, 0 or "
                "more, not all 0"
            )
    return {index: list(counts[client]) for index, client in enumerate(clients)}


def _pixel_range(
    normalization: tuple[Sequence[float], Sequence[float]] | None,
    pixel_range: tuple[Sequence[float], Sequence[float]] | None,
) -> tuple[Sequence[float], Sequence[float]] | None:
    if normalization is None:
        return pixel_range
    if pixel_range is not None:
        raise ValueError("give normalization or pixel_range, not both")
    mean, std = map(tuple, normalization)
    return Normalization(mean, std).bounds()


@torch.no_grad()
def _count_classes(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return how many logits the model gives for an image of that shape."""
    device = device_of(model)
    try:
        logits = model.eval()(torch.zeros((1, *image_shape), device=device))
    except RuntimeError as error:
        raise ValueError(
            f"the model does not take images of shape {image_shape}: {error}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError("the model must return logits (n, classes), one tensor")
    return int(logits.shape[1])
