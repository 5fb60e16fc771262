"""A running federation: what the stages of a run have in common.

It holds the clients, the strategy, the global model and the run's directory, and offers what a
stage or a post-training hook needs: run a round, evaluate, read a local model, ask for label
counts, and commit a finished step.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from foundation import ExpectedError, ProgressLog
from foundation.data import to_assignment
from foundation.data.agreement import to_values
from foundation.events.family import (
    BytesSent,
    ClientsMet,
    Evaluated,
    Event,
    Listener,
    RoundDone,
    RunOpened,
    StatisticsMeasured,
    failures_of,
)
from foundation.events.log import EventLog
from foundation.messages.fingerprint import code_fingerprint
from foundation.messages.frozen_layers import FrozenLayers
from foundation.messages.gather import gather
from foundation.messages.participants import MissingClients, Participants
from foundation.messages.shared_model import shared_model
from foundation.models import (
    Classifier,
    State,
    StateLayout,
    cpu_state,
    first_non_finite,
    fit_threads,
    load_state,
    release_memory,
    resolve_device,
)
from foundation.processes import Workers, threads
from foundation.progress import PROGRESS
from foundation.settings.configuration import RunConfiguration
from generation import forward_operations
from questions import Request
from questions.ask import Answers, ask
from questions.batch_norm import BatchNormRequest
from questions.description import DescriptionRequest, introducing
from questions.pixel_sums import PixelSumsRequest
from strategies import TooFewReplies, get

from .checkpoints import Checkpoint, Checkpoints
from .images import description_of, normalized
from .initial_model import initial_state
from .measuring import CLIENTS, Figures, Measuring, scored
from .pseudo_files import forget_repeated
from .same_data import (
    described_data,
    described_test,
    require_same_data,
    warn_of_other_images,
    warn_of_other_test,
)
from .told_labels import ToldLabels
from .worker_pool import WorkerPool

log = logging.getLogger("flwr.fedf2dg")

A = TypeVar("A")


_ADVICE = (
    "A client sent absurd weights, or learning-rate is too high. Continue from the round before "
    "with resume-from, and e.g. clip-update-norm=2"
)


class DivergedModel(ExpectedError, RuntimeError):
    """The global model of a round says nothing any more; the round before is kept."""


class Federation:
    """The state of a run, from its first round to its summary.

    Parameters
    ----------
    grid : Grid
        Flower's grid, or the in-process one.
    configuration : RunConfiguration
        The run's settings.
    directory : Path
        The run's directory.
    workers : Workers, optional
        Processes to use; otherwise some are started when they are worth it, and end with this
        context.
    must_stop, listeners
        See :func:`server_app.run.run`.
    """

    def __init__(
        self,
        grid: Grid,
        configuration: RunConfiguration,
        directory: Path,
        workers: Workers | None = None,
        must_stop: Callable[[str], str | None] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._must_stop = must_stop
        self.grid = grid
        self.configuration = configuration
        self.directory = directory
        self.description = description_of(configuration)
        self.device = resolve_device(configuration.device)
        self._projection = get(configuration.strategy).projection
        self._model = shared_model(configuration, self.description, self._projection).to(
            self.device
        )
        #: Floating-point operations of one image's forward pass.
        self.operations = forward_operations(self._model, self.description.image_shape)
        fit_threads(self.operations, threads(), configuration.threads)
        #: Processes for the server's own work.
        self.pool = WorkerPool(configuration.processes, configuration.device, workers)
        self.participants = Participants(
            configuration.num_clients,
            configuration.node_timeout,
            introducing(
                DescriptionRequest(
                    code_fingerprint(configuration.flat()),
                    self.description.classes if configuration.exact_counts_told else 1,
                ),
                to_values(self.description),
            ),
            configuration.client_identity,
        )
        self.measuring = Measuring(
            self.ask, configuration, self.description, self.participants, self.device
        )
        self.strategy = get(configuration.strategy).server(
            configuration,
            StateLayout.of(self._model),
            directory / "checkpoints",
            self.participants,
        )
        self.checkpoints = Checkpoints(directory / "checkpoints", configuration)
        self.events = EventLog(directory, configuration.num_server_rounds, listeners)
        self._take_up(Checkpoint(cpu_state(self._model)))

    def __enter__(self) -> Federation:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes that were started, and what follows the run."""
        self.pool.close()
        self.events.close()

    def _take_up(self, state: Checkpoint) -> None:
        #: What the next checkpoint will hold.
        self.state = state
        #: Seconds, traffic and results so far.
        self.ledger = state.ledger
        self.events.enter = state.ledger.enter
        self.description = normalized(self.description, state.normalization)
        self.measuring.description = self.description
        self.label_counts = ToldLabels(
            self.ask,
            self.participants,
            self.configuration,
            self.description.classes,
            state.label_counts,
            self.record,
        )

    # ------------------------------------------------------------------------------------- steps

    def resume(self) -> bool:
        """Take up the state of the last checkpoint of the run's directory, if there is one.

        Nothing on disk is changed yet: it may turn out that these are not the run's clients.
        """
        loaded = self.checkpoints.load(self.configuration.stage_names)
        if loaded is None:
            return False
        load_state(self._model, loaded.global_state)
        self._take_up(loaded)
        self.participants.recall(loaded.nodes)
        self.strategy.declare(loaded.versions)
        if loaded.memory:
            self.strategy.restore(loaded.memory)
        return True

    def begin(self) -> None:
        """Take the initial weights, or drop what was done behind the state that was taken up.

        What is dropped is done again.
        """
        if not self.state.completed:
            self.set_global(initial_state(self.configuration, self.description, self._model))
            if self.configuration.initial_weights and not self.configuration.measures_pixels:
                pixels = self.description.normalization
                self.state.normalization = {"mean": list(pixels.mean), "std": list(pixels.std)}
        for name in ("summary.json", PROGRESS):
            (self.directory / name).unlink(missing_ok=True)
        if self.state.completed:
            self._know_frozen_layers()
            self.checkpoints.drop_later(self.state)
            self.strategy.retained = self.checkpoints.retained()
            self.strategy.prune()
            log.info("resuming behind step %s", self.state.completed[-1])
        opened = RunOpened(self.directory, self.configuration, self.description.class_names)
        self.events.open(opened, self.state.metrics_position)
        forget_repeated(self.directory / "pseudo_data", self.state.completed)

    def record(self, event: Event) -> None:
        """Say what happened."""
        self.events(event)

    def done(self, step: str) -> bool:
        """Tell whether a step was completed, in this process or before a resume."""
        return step in self.state.completed

    def commit(self, step: str) -> None:
        """Make a finished step durable: a run that is killed now goes on behind it."""
        self.ledger.note_total_time()
        self.state.nodes = self.participants.remember()
        self.state.completed.append(step)
        self.state.memory = self.strategy.memory()
        self.state.versions = self.strategy.versions()
        self.state.metrics_position = self.events.position()
        self.checkpoints.save(self.state)
        self.strategy.retained = self.checkpoints.retained()
        release_memory(self.device)

    # ----------------------------------------------------------------------------------- clients

    def meet_clients(self) -> None:
        """Wait for the clients and learn who they are.

        Raises
        ------
        ConfigurationError, MissingClients
            If they are not those that the configuration names.
        CheckpointError
            If they are simulated, and have other images than when the run began.
        """
        self.participants.discover(self.grid, self.configuration.required_replies)
        if self.participants.simulated:
            counts, division = self._example_counts(), self.configuration.division
            now = described_data(division, counts, self.description.class_names)
            require_same_data(self.state.data, now)
        else:
            now = described_test(self.configuration.data_set)
            warn_of_other_images(self.participants)
            warn_of_other_test(self.state.data, now)
        self.state.data = now
        if self.configuration.measures_pixels and not self.state.normalization:
            self._normalize_as_measured()

    def _normalize_as_measured(self) -> None:
        request = PixelSumsRequest(self.description.image_shape)
        answers = self.ask(request)
        if answers.failures:
            raise MissingClients(f"no valid sums of pixels: {answers.who_failed}")
        mean, std = request.pooled(answers.valid)
        self.state.normalization = {"mean": mean, "std": std}
        self._take_up(self.state)

    def _example_counts(self) -> list[int]:
        return [self.participants[client].num_examples for client in self.participants.clients]

    def note_clients(self) -> None:
        """Write down who the clients are, and ask for their label counts.

        Raises
        ------
        MissingClients
            If one does not tell them.
        """
        counts = self._example_counts()
        if self.participants.simulated:
            self._write_partition()
        if not any(step.startswith("train") for step in self.state.completed):
            table = self.label_counts.of(self.participants.clients)
            missing = [client for client, row in (table or {}).items() if row is None]
            if missing:
                raise MissingClients(
                    f"no valid label counts from clients {missing}. Set label-counts=uniform or "
                    "generation.place=client to do without them"
                )
            told = None if table is None else [row for row in table.values() if row is not None]
            self.record(ClientsMet(counts, told, self._client_names()))

    def _client_names(self) -> Sequence[str]:
        """Return the names of simulated sites; nothing where clients have none."""
        if not self.participants.simulated:
            return ()
        names = self.configuration.data_set.sites()
        return tuple(names) if len(names) == self.configuration.num_clients else ()

    def _write_partition(self) -> None:
        """Write ``partition.npy``: for every row of the training split its client, -1 for none."""
        division = self.configuration.division
        rows = len(division.data_set.load("train"))
        np.save(self.directory / "partition.npy", to_assignment(division.parts(), rows))

    def agreement(self) -> ConfigRecord:
        """Return what every message says of the data."""
        return ConfigRecord(to_values(self.description))

    def ask(
        self, request: Request[A, Any], progress: Callable[[int, int], None] | None = None
    ) -> Answers[A]:
        """Ask the clients a question, and count what travelled: models down, its answers up."""
        answers = ask(
            self.grid,
            request,
            self.participants,
            agreement=self.agreement(),
            timeout=self.configuration.round_timeout,
            progress=progress,
        )
        self.record(BytesSent("model", down=answers.bytes_down))
        self.record(BytesSent(request.asks.name.replace("_", " "), up=answers.bytes_up))
        return answers

    def progress(self, what: str, unit: str) -> ProgressLog:
        """Return a function that logs progress, and tells those who watch the directory."""
        return ProgressLog(what, unit, self.directory / PROGRESS)

    def stop_if_hopeless(self, reasons: Iterable[str]) -> None:
        """Stop the run if the engine says that clients that failed so will be missing ever after.

        Raises
        ------
        TooFewReplies
            With what the engine says.
        """
        for reason in reasons:
            if self._must_stop is not None and (why := self._must_stop(reason)):
                raise TooFewReplies(why)

    def train_round(self, server_round: int, phase: str) -> None:
        """Run one federated round: sample, train on the clients, aggregate, evaluate.

        Parameters
        ----------
        server_round : int
            Number of the round; rounds of the competition loop go on counting.
        phase : str
            ``"federated"`` or ``"competition"``.
        """
        started = time.perf_counter()
        if self.strategy.outcome is not None:
            # The round before is kept: it had enough replies.
            self.stop_if_hopeless(failure.reason for failure in self.strategy.outcome.failures)
        self.strategy.begin(server_round, self.state.global_state, self.grid)
        gathered = gather(
            self.grid,
            self.strategy.addresses,
            "train",
            partial(self.strategy.content, server_round, self.agreement()),
            partial(self.strategy.checked, server_round),
            self.configuration.round_timeout,
        )
        combined = self.strategy.finish(server_round, gathered)
        if broken := first_non_finite(combined):
            # Every update was finite: their combination is beyond what a float32 can hold.
            raise DivergedModel(
                f"round {server_round}: the combined model cannot be used: {broken!r} holds NaN or "
                f"infinite values. {_ADVICE}"
            )
        self.set_global(combined)
        outcome = self.strategy.outcome
        assert outcome is not None
        figures = self._figures_of(server_round)
        if figures.loss is not None and not math.isfinite(figures.loss):
            raise DivergedModel(
                f"round {server_round}: the global model's loss is {figures.loss}. {_ADVICE}"
            )
        self.record(
            RoundDone(
                server_round,
                phase,
                figures.accuracy,
                figures.loss,
                figures.measured,
                outcome.train_loss,
                time.perf_counter() - started,
                outcome.clients,
                failures_of({f.client: f.reason for f in outcome.failures}),
                outcome.bytes_down,
                outcome.bytes_up,
                outcome.notes,
            )
        )

    # ------------------------------------------------------------------------------------ models

    def set_global(self, state: State) -> None:
        """Replace the global model."""
        load_state(self._model, state)
        self.state.global_state = state
        self._know_frozen_layers()

    def _know_frozen_layers(self) -> None:
        """Note the global model's frozen layers, which clients then get once."""
        names, known = self.strategy.layout.frozen, self.participants.frozen
        state = self.state.global_state
        if names and not (known is not None and known.part_of(state)):
            self.participants.frozen = FrozenLayers(state, names)

    def global_model(self) -> Classifier:
        """Return a model that holds the global state; the caller may change it."""
        return self.with_state(self.state.global_state)

    def with_state(self, state: State) -> Classifier:
        """Return a new model that holds a state, on the run's device, in eval mode."""
        model = shared_model(self.configuration, self.description, self._projection).to(self.device)
        load_state(model, state)
        return model.eval()

    # -------------------------------------------------------------------------------- evaluation

    def _measure(self, state: State) -> tuple[Figures, ...]:
        load_state(self._model, state)
        return self.measuring(self._model, state)

    def _figures_of(self, server_round: int) -> Figures:
        """Measure what a round's algorithm produced, if it is that round's turn."""
        if not self.measuring.is_due(server_round, not self.strategy.has_global_model):
            return Figures()
        found: list[Figures] = []

        def measure(state: State) -> dict[str, float]:
            figures = self._measure(state)[0]
            if figures.accuracy is None or figures.loss is None:
                return {}
            found.append(figures)
            return {"accuracy": figures.accuracy, "loss": figures.loss}

        values = self.strategy.evaluate(self.state.global_state, measure)
        if not values:
            return Figures()
        return Figures(found[0].by, found[0].images, values["accuracy"], values["loss"])

    def measure_statistics(self, stage: str, always: bool = False) -> None:
        """Give the result of a stage the BatchNorm statistics of the clients' images.

        Only with ``batch-norm=measured``, or for a model that no averaged ones fit: cheap, as it is
        done once a stage, and everything that follows sees them.
        """
        if self.configuration.batch_norm != "measured" and not always:
            return
        started = time.perf_counter()
        request = BatchNormRequest.of(self.global_model(), self.description.image_shape)
        if not request.layers:
            return
        answers = self.ask(request)
        self.set_global(request.pooled(answers.valid))
        seconds, failures = time.perf_counter() - started, failures_of(answers.failures)
        self.record(StatisticsMeasured(stage, list(answers.valid), failures, seconds))

    def close_stage(self, stage: str) -> Figures:
        """Measure the global model as the result of a stage."""
        self.measure_statistics(stage)
        return self.note_figures(stage, self._measure(self.state.global_state))

    def note_figures(self, stage: str, measured: Sequence[Figures]) -> Figures:
        """Write down what was measured of a stage's result; the first figures are the run's."""
        told = [figures.on_clients for figures in measured if figures.by == CLIENTS]
        figures = measured[0]
        if (kept := scored(stage, measured)) is not None:
            self.record(kept)
        self.record(
            Evaluated(
                stage,
                figures.accuracy,
                figures.loss,
                figures.confusion,
                figures.measured,
                told[0] if told else None,
            )
        )
        return figures
