"""A trained federation as a post-training method sees it: over the run's clients and files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from foundation.events.family import Event, ResultMeasured
from foundation.models import Classifier, State
from foundation.processes import WorkerPool, Workers
from generation import Generation, PseudoData
from post_training import Inputs, PseudoRequest
from post_training.trained import ReadWhenAsked, inverted
from questions import Request
from questions.ask import Answers
from questions.pseudo_images import PseudoImagesRequest, pixel_range
from strategies import TooFewReplies

from .acceptance import Acceptance, StageParts
from .pseudo_files import PseudoFiles
from .rounds import Rounds

log = logging.getLogger("flwr.fedf2dg")

P = TypeVar("P")


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
        place = self.parts.configuration.generation.place
        started = time.perf_counter()
        down = up = 0
        if place == "server":
            made = inverted(self, request, self.parts.model.device, self._workers(request))
        else:
            answers = self._asked_for_images(request)
            made = answers[0]
            down, up = answers[1].bytes_down, answers[1].bytes_up
        event = request.event(made, time.perf_counter() - started)
        budgets = self._by_index(request.budgets)
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

    def _by_index(self, budgets: Mapping[int, int]) -> list[int]:
        """Return the budgets as a list with one entry for each client of the federation."""
        return [
            budgets.get(client, 0)
            for client in range(max(self.parts.clients.participants.clients) + 1)
        ]

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
