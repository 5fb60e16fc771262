"""What a run's models are worth, and who says so: the server's test set, or the clients.

Figures are for people to read. Nothing is selected by them; what a run keeps is decided in
:mod:`server_app.acceptance`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import log
from foundation.events.family import (
    ClientAccuracy,
    Evaluated,
    Measured,
    OnClients,
    Scored,
    SiteOutcomes,
    StatisticsMeasured,
    failures_of,
)
from foundation.events.log import Record
from foundation.models import State, load_state
from foundation.models.evaluation import Evaluator
from foundation.scores import Outcomes
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from questions.ask import Answers
from questions.batch_norm import BatchNormRequest
from questions.evaluation import EvaluationRequest, Scores

from .clients import Clients
from .global_model import GlobalModel

#: Who measures, as summary and metrics name them.
SERVER, CLIENTS, NOBODY = "server", "clients", "nobody"


def measurers(configuration: RunConfiguration) -> tuple[str, ...]:
    """Return who measures a run's models; the figures of the first are the run's.

    ConfigurationError if the server is to measure and has no test set.
    """
    wish = configuration.evaluation
    if wish == CLIENTS:
        return (CLIENTS,)
    there = configuration.data_set.has("test")
    if wish == "auto":
        return (SERVER,) if there else (CLIENTS,)
    if not there:
        raise ConfigurationError(
            f"evaluation = {wish!r}: the server has no test images (dataset = "
            f"{configuration.dataset!r}, data-dir = {configuration.data_dir!r}). Give it some, or "
            "set evaluation=clients"
        )
    return (SERVER,) if wish == SERVER else (SERVER, CLIENTS)


@dataclass(frozen=True)
class Figures:
    """What somebody measured of one model; without an image nothing is known.

    ``loss`` is the mean cross-entropy, ``confusion`` the server's alone (row: true class, column:
    predicted class). ``outcomes`` adds up what the model says of the images; ``sites`` is the same
    at each client, where the clients measured. ``of_sites`` is that of :class:`Measured`.
    """

    by: str = NOBODY
    images: int = 0
    accuracy: float | None = None
    loss: float | None = None
    confusion: list[list[int]] | None = None
    by_client: tuple[ClientAccuracy, ...] = ()
    outcomes: Callable[[], Outcomes] | None = None
    sites: tuple[SiteOutcomes, ...] = ()
    of_sites: bool = False

    @property
    def measured(self) -> Measured:
        """Who measured on how many images, and of how many classes where some have none."""
        tested = sum(any(row) for row in self.confusion or ())
        some = tested if tested < len(self.confusion or ()) else 0
        return Measured(self.by, self.images, some, of_sites=self.of_sites)

    @property
    def on_clients(self) -> OnClients:
        """What the clients measured."""
        return OnClients(self.images, self.accuracy, self.by_client)


class Measuring:
    """Measures models by the test set, the clients, or both; see :func:`measurers`."""

    def __init__(
        self, configuration: RunConfiguration, model: GlobalModel, clients: Clients, record: Record
    ) -> None:
        self._configuration = configuration
        self._model = model
        self._clients = clients
        self._record = record
        self._by = measurers(configuration)
        # The latest model and its figures: a stage ends with the model of its last round.
        self._latest: tuple[State, tuple[Figures, ...]] | None = None
        self._tested: tuple[State, Tensor] | None = None

    @property
    def by(self) -> str:
        """Whose figures are the run's."""
        return self._by[0]

    @cached_property
    def evaluator(self) -> Evaluator:
        """The server's test set, read when it is first needed; a run without one has none."""
        assert SERVER in self._by, "this run's server has no test set"
        test = self._configuration.data_set.load("test")
        return Evaluator(test, self._clients.description.normalization, self._model.device)

    def test_logits(self, state: State) -> NDArray[np.float32] | None:
        """Return what a model says of the test images, (n, C), if it was measured last on them."""
        if self._tested is None or self._tested[0] is not state:
            return None
        return self._tested[1].cpu().numpy()

    def is_due(self, server_round: int, closes_itself: bool) -> bool:
        """Tell whether the model of a round is measured: every n-th one, and the last.

        Rounds of a competition count on. ``closes_itself``: the last round is the end of its stage,
        after which nobody else measures.
        """
        if self._configuration.personal == "batch-norm":
            return False  # the model has no BatchNorm before the rounds are over
        every, last = self._configuration.evaluation_every, self._configuration.num_server_rounds
        if every == 0:
            return closes_itself and server_round == last
        return server_round % every == 0 or server_round == last

    @property
    def measures_on_the_way(self) -> bool:
        """Whether models inside a stage are measured too, where that costs no message."""
        return self.by == SERVER and self._configuration.evaluation_every > 0

    def __call__(self, state: State) -> tuple[Figures, ...]:
        """Measure one model: the figures of each who measures; the first are the run's."""
        if self._latest is not None and self._latest[0] is state:
            return self._latest[1]
        found = [self.here(state) if who == SERVER else self._there(state) for who in self._by]
        self._latest = (state, tuple(found))
        return self._latest[1]

    def here(self, state: State) -> Figures:
        """Measure a model on the server's test set alone."""
        found = self.evaluator(load_state(self._model.shell, state))
        self._tested = (state, found.logits)
        return Figures(
            SERVER,
            len(found.labels),
            found.accuracy,
            found.loss,
            found.confusion,
            outcomes=found.outcomes,
            of_sites=bool(self._configuration.data_set.test_sites()),
        )

    def by_the_way(self, state: State, answers: Answers[Scores], index: int) -> Sequence[Figures]:
        """Measure the candidate of that index that the clients were asked about already."""
        names = self._clients.participants.names()
        return [
            self.here(state) if who == SERVER else figures_of(answers, names, index)
            for who in self._by
        ]

    def _there(self, state: State) -> Figures:
        answers = self._clients.ask(EvaluationRequest(state))
        if answers.failures:
            log.warning("evaluation: %s", answers.who_failed)
        return figures_of(answers, self._clients.participants.names())

    def take_statistics(self, stage: str, always: bool = False) -> None:
        """Give the result of a stage the BatchNorm statistics of the clients' images.

        Only with ``batch-norm=measured``, or for a model that no averaged ones fit: once a stage.
        """
        if self._configuration.batch_norm != "measured" and not always:
            return
        started = time.perf_counter()
        request = BatchNormRequest.of(self._model.copy(), self._clients.description.image_shape)
        if not request.layers:
            return
        answers = self._clients.ask(request)
        self._model.state = request.pooled(answers.valid)
        seconds = time.perf_counter() - started
        failures = failures_of(answers.failures, answers.names)
        self._record(StatisticsMeasured(stage, list(answers.valid), failures, seconds))

    def close_stage(self, stage: str) -> None:
        """Measure the global model as the result of a stage."""
        self.take_statistics(stage)
        self.note(stage, self(self._model.state))

    def note(self, stage: str, measured: Sequence[Figures]) -> None:
        """Say what was measured of a stage's result; the first figures are the run's."""
        if (kept := scored(stage, measured)) is not None:
            self._record(kept)
        there = next((each.on_clients for each in measured if each.by == CLIENTS), None)
        of = measured[0]
        self._record(Evaluated(stage, of.accuracy, of.loss, of.confusion, of.measured, there))


def figures_of(answers: Answers[Scores], names: Mapping[int, str], index: int = 0) -> Figures:
    """Return the figures of one of the candidates that the clients were asked about."""
    total = Scores.sum(answers.parts)
    if total is None:
        return Figures()
    by_client = (
        ClientAccuracy(client, names[client], scores.images, scores.accuracy(index))
        for client, scores in answers.valid.items()
    )
    return Figures(
        CLIENTS,
        total.images,
        total.accuracy(index),
        mean_loss(answers.parts, index),
        by_client=tuple(by_client),
        outcomes=(lambda: total.outcomes[index]) if total.outcomes else None,
        sites=tuple(
            SiteOutcomes(client, names[client], scores.outcomes[index].as_json(brief=True))
            for client, scores in answers.valid.items()
            if scores.outcomes
        ),
    )


def scored(stage: str, figures: Sequence[Figures]) -> Scored | None:
    """Return what the first who measured a kept model know of it; None if nobody did."""
    whole = next((found.outcomes for found in figures if found.outcomes), None)
    sites = next((found.sites for found in figures if found.sites), ())
    return None if whole is None else Scored(stage, whole().as_json(), sites)


def mean_loss(scores: Sequence[Scores], index: int = 0) -> float:
    """Return a candidate's mean cross-entropy over the images of clients whose sum is finite.

    It is infinite only where every client says so: a single one cannot make a model look diverged.
    """
    finite = [part for part in scores if math.isfinite(part.loss[index])]
    if not finite:
        return math.inf
    return float(sum(part.loss[index] for part in finite)) / sum(part.images for part in finite)
