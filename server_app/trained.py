"""A trained federation as a post-training method sees it: over the run's clients and files."""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file

from foundation.data import Normalization
from foundation.errors import log
from foundation.events.family import Event, ResultMeasured
from foundation.models import Classifier, State
from foundation.models.client_store import write_state
from foundation.processes import WorkerPool, Workers
from generation import Generation, PseudoData
from post_training import Inputs, PseudoRequest, methods
from post_training.trained import ReadWhenAsked, inverted
from questions import Request
from questions.ask import Answers
from questions.pseudo_images import PseudoImagesRequest, pixel_range
from strategies import TooFewReplies

from .acceptance import Acceptance, StageParts
from .checkpoints import CheckpointError
from .rounds import Rounds

P = TypeVar("P")

# The files of FedF²DG's steps "generate-00" and "compete-01-generate-00" are named for readers; any
# other step's file has the step's name.
_STEP = re.compile(r"(?:compete-(?P<round>\d+)-)?generate-(?P<batch>\d+)")
_FILE = re.compile(r"(?P<kind>common|hard)-c(?P<round>\d+)-b(?P<batch>\d+)")


def _file_name(step: str) -> str:
    if made := _STEP.fullmatch(step):
        kind = "hard" if made["round"] else "common"
        return f"{kind}-c{int(made['round'] or 0)}-b{int(made['batch'])}.safetensors"
    return f"{step}.safetensors"


def _is_ours(path: Path) -> bool:
    """Tell whether a step of a known method wrote a file; somebody may keep others there."""
    prefixes = tuple(method.prefix for method in methods().values() if method.prefix)
    return bool(_FILE.fullmatch(path.stem)) or path.stem.startswith(prefixes)


def forget_repeated(directory: Path, completed: Iterable[str]) -> None:
    """Delete what a stage that is to be repeated has left, which a report would take for new."""
    kept = {_file_name(step) for step in completed}
    for path in list(directory.glob("*.safetensors")):
        if _is_ours(path) and path.name not in kept:
            path.unlink()
            if path.name.startswith("common-"):  # the picture shows these
                (directory / "grid.png").unlink(missing_ok=True)


@dataclass(frozen=True)
class PseudoFiles:
    """The folder ``pseudo_data`` of a run: pseudo images by the step that made them.

    The normalisation is stored with the images, which are in normalised space. A method's steps
    begin with ``prefix``. ``written`` is called after every file.
    """

    directory: Path
    normalization: Normalization
    prefix: str
    written: Callable[[], None]

    def __setitem__(self, step: str, data: PseudoData) -> None:
        constants = {"mean": self.normalization.mean, "std": self.normalization.std}
        texts = {name: json.dumps(values) for name, values in constants.items()}
        write_state(self._path(step), vars(data), texts)
        self.written()

    def __getitem__(self, step: str) -> PseudoData:
        path = self._path(step)
        try:
            return PseudoData(**load_file(path))
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} is missing: run the stage that generates it first"
            ) from error
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error

    def _path(self, step: str) -> Path:
        return self.directory / _file_name(self.prefix + step)


@dataclass(frozen=True)
class TrainedFederation:
    """Implements :class:`post_training.Trained` over a federation after its last federated round.

    The names of the method's steps begin with ``prefix``, so that those of two methods differ.
    """

    prefix: str
    parts: StageParts
    rounds: Rounds
    acceptance: Acceptance
    store: PseudoFiles
    pool: WorkerPool

    @property
    def global_state(self) -> State:
        return self.parts.model.state

    def model(self, state: State) -> Classifier:
        return self.parts.model.holding(state)

    @property
    def inputs(self) -> Inputs:
        description = self.parts.clients.description
        bounds = pixel_range(self.parts.configuration, description)
        return Inputs(description.image_shape, description.classes, bounds)

    @property
    def local_models(self) -> Mapping[int, State]:
        strategy = self.rounds.strategy
        return ReadWhenAsked(strategy.last_local_models(), strategy.local_models.read)

    @property
    def names(self) -> dict[int, str]:
        return self.parts.clients.participants.names()

    @property
    def num_examples(self) -> dict[int, int]:
        participants = self.parts.clients.participants
        return {client: participants[client].num_examples for client in self.local_models}

    def offer(
        self, stage: str, state: State, *, needs_proof: bool = True, whole: bool = False
    ) -> None:
        self.parts.model.state = state
        self.acceptance.offer(stage, needs_proof, whole)

    def evaluate(self, state: State, stage: str) -> float | None:
        # Clients that measure are asked at the ends of stages alone.
        if not self.parts.measuring.measures_on_the_way:
            return None
        figures = self.parts.measuring.here(state)
        self.record(ResultMeasured(stage, figures.accuracy, figures.measured))
        return figures.accuracy

    def round(self) -> bool:
        last = max(self.rounds.strategy.local_models.versions.values())
        self.rounds.carry_out(last + 1, "competition")
        return True

    def label_counts(self) -> dict[int, list[int]] | None:
        counts = self.parts.clients.label_counts(list(self.local_models))
        return None if counts is None else {client: row for client, row in counts.items() if row}

    def ask(self, request: Request[Any, P]) -> P | None:
        asked = request.for_run(self.parts.configuration, self.inputs.classes)
        if asked is None:
            return None
        answers = self.parts.clients.ask(asked)
        if answers.failures:
            log.warning("%s: %s", asked.asks.name.replace("_", " "), answers.who_failed)
        return asked.pooled(answers.valid)

    def pseudo_images(self, request: PseudoRequest) -> PseudoData:
        place, down, up = self.parts.configuration.generation.place, 0, 0
        started = time.perf_counter()
        if place == "server":
            made = inverted(self, request, self.parts.model.device, self._workers(request))
        else:
            made, answers = self._asked_for_images(request)
            down, up = answers.bytes_down, answers.bytes_up
        event = request.event(made, time.perf_counter() - started, self.names)
        everybody = range(max(self.parts.clients.participants.clients) + 1)
        budgets = [request.budgets.get(client, 0) for client in everybody]
        self.record(replace(event, place=place, budgets=budgets, bytes_down=down, bytes_up=up))
        return made.data

    def _asked_for_images(self, request: PseudoRequest) -> tuple[Generation, Answers[Generation]]:
        """Have the clients invert their models; one that fails has no images in this batch."""
        asked = PseudoImagesRequest(
            request.kind,
            request.budgets,
            request.seed,
            self.inputs.shape,
            self.inputs.classes,
            self.local_models.__getitem__,
            self.model,
            self.global_state if request.competes else None,
        )
        what = f"inversion of {request.kind} samples on the clients"
        answers = self.parts.clients.ask(asked, self.parts.progress(what, "clients"))
        self.parts.clients.stop_if_hopeless(answers.failures.values())
        made = asked.pooled(answers.valid)
        if made is None:
            raise TooFewReplies(
                f"no client generated valid {request.kind} samples. {answers.who_failed}"
            )
        return replace(made, failures=answers.failures), answers

    def _workers(self, request: PseudoRequest) -> Workers | None:
        """Return processes to share the clients' models out over, where that pays."""
        models = 2 if request.competes else 1
        operations = 2.0 * models * self.parts.model.operations * sum(request.budgets.values())
        return self.pool.workers(
            sum(images > 0 for images in request.budgets.values()),
            operations * request.inversion.iterations,
        )

    def record(self, event: Event) -> None:
        self.parts.journal.record(event)

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        return self.parts.progress(what, unit)

    def timed(self, name: str) -> AbstractContextManager[None]:
        return self.parts.journal.ledger.timed(name)

    def done(self, step: str) -> bool:
        return self.parts.journal.done(self.prefix + step)

    def commit(self, step: str) -> None:
        # What the step offered is judged, and that is written too.
        self.parts.commit(self.prefix + step)
        self.acceptance.settle()
