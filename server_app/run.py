"""The story of a run, on one page: clients, rounds, post-training, summary, report."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from flwr.serverapp import Grid

from foundation import ProgressLog
from foundation.data import Description
from foundation.errors import log
from foundation.events.family import (
    Listener,
    ModelKept,
    PseudoImagesStored,
    RunCompleted,
    RunEnded,
    RunOpened,
    RunStarted,
)
from foundation.messages.participants import Participants
from foundation.models import fit_threads, gpu_shares, release_memory
from foundation.models.client_store import OWN_LAYERS
from foundation.processes import WorkerPool, Workers, threads
from foundation.progress import PROGRESS
from foundation.settings.configuration import RunConfiguration
from foundation.settings.post_training import method_names, methods_for
from foundation.settings.privacy import PrivacySettings
from foundation.wording import listed
from post_training import Method, Settings, chosen
from post_training.closed_form_head import with_closed_form_head
from strategies import prior_left
from strategies.privacy import server_half

from . import own_models, run_directory
from .acceptance import Acceptance, StageParts
from .checkpoints import BEFORE_ROUNDS, ENDED, Journal, rounds_done
from .clients import Clients
from .global_model import GlobalModel, initial_state
from .images import description_of
from .measuring import CLIENTS, Measuring
from .rounds import Rounds
from .trained import PseudoFiles, TrainedFederation, forget_repeated
from .training_result import LAST_FOLDER, TrainingResult

_MODEL = "model"


def run(
    grid: Grid,
    configuration: RunConfiguration,
    workers: Workers | None = None,
    must_stop: Callable[[str], str | None] | None = None,
    listeners: Sequence[Listener] = (),
) -> dict[str, Any]:
    """Carry out a run from the chosen first stage to its report; return its ``summary.json``.

    The configuration passed :func:`server_app.preflight.check`. ``workers`` are processes that are
    free while the grid has nothing to do; without them the run starts its own. ``must_stop`` knows
    of failed clients what the engine knows: it gets the reason of one failure, and says why the run
    cannot go on after it, or None.
    """
    directory = run_directory.prepare(configuration)
    log.info("run directory: %s", directory)
    with (
        run_directory.machine_errors_explained(directory),
        run_directory.reserved(directory),
        Run(grid, configuration, directory, workers, must_stop, listeners) as this,
    ):
        if this.resume():
            # Before anything of that run is replaced.
            this.clients.meet(this.journal.state)
        this.begin()
        try:
            return this.carry_out()
        except BaseException as error:
            # Whoever follows the run is to know; a resumed run goes on before this event.
            with contextlib.suppress(OSError):  # of a full disk, say, which is the error itself
                status = "failed" if isinstance(error, Exception) else "interrupted"
                if not (directory / run_directory.SUMMARY).exists():  # else pages alone are missing
                    this.journal.record(RunEnded(status, str(error) or type(error).__name__))
            raise


class Run:
    """All parts of a run; each of them has what it needs of the others, and nobody else has all."""

    def __init__(
        self,
        grid: Grid,
        configuration: RunConfiguration,
        directory: Path,
        workers: Workers | None = None,
        must_stop: Callable[[str], str | None] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.configuration = configuration
        self.directory = directory
        description = description_of(configuration)
        self.model = GlobalModel(configuration, description)
        fit_threads(self.model.operations, threads(), configuration.threads)
        self.pool = WorkerPool(configuration.processes, gpu_shares(configuration.device), workers)
        self.journal = Journal(directory, configuration, listeners)
        record = self.journal.record
        self.clients = Clients(grid, configuration, description, self.model, record, must_stop)
        self.measuring = Measuring(configuration, self.model, self.clients, record)
        self.parts = StageParts(
            configuration,
            self.model,
            self.clients,
            self.measuring,
            self.journal,
            self.commit,
            lambda what, unit: ProgressLog(what, unit, directory / PROGRESS),
        )
        checkpoints, participants = directory / "checkpoints", self.clients.participants
        self.strategy = server_half(configuration)(
            configuration, self.model.layout, checkpoints, participants
        )
        self.rounds = Rounds(
            configuration, self.strategy, self.clients, self.model, self.measuring, record
        )
        self.clients.take_up(self.journal.state)

    @property
    def description(self) -> Description:
        """The images, with the normalisation that is known by now."""
        return self.clients.description

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()
        self.journal.close()

    def carry_out(self) -> dict[str, Any]:
        """Go from the first step that is not done to the summary, which is returned."""
        configuration, journal = self.configuration, self.journal
        # Before anything else is done: whoever resumes the run must find what it was.
        self._write_configuration()
        if not journal.state.completed:
            started = datetime.now(UTC).isoformat(timespec="seconds")
            of = (configuration.strategy, configuration.dataset, configuration.seed)
            journal.record(RunStarted(started, *of))
            self.clients.meet(journal.state)
            if configuration.measures_pixels:  # and are known now
                self._write_configuration()
        _log_images(configuration, self.description)
        self.clients.write_partition(self.directory / "partition.npy")
        if not any(step.startswith("train") for step in journal.state.completed):
            self.clients.introduce()
        has_model, participants = self.strategy.has_global_model, self.clients.participants
        for sentence in left_out(configuration, self.description.image_size, has_model):
            log.warning("%s", sentence)
        if has_model or not _post_trains(configuration):
            _warn_of_judges(configuration, participants, self.measuring.by)
        if "train" in configuration.stage_names:
            self.train()
        if has_model and configuration.stage_names != ("train",):
            self.post_train()
        own_models.judge(self.parts)
        if has_model and configuration.baseline == "local":
            own_models.compare(self.parts, self.model.initial())
        journal.ledger.note_total_time()
        summary = self._summary()
        self._keep_model(summary)
        run_directory.write_json(self.directory / run_directory.SUMMARY, summary)
        journal.checkpoints.finish()
        journal.record(RunEnded(summary["status"]))
        logits = self.measuring.test_logits(self.model.state) if has_model else None
        journal.record(RunCompleted(self.directory, summary, self.description.class_names, logits))
        return summary

    def train(self) -> None:
        """Carry out the federated rounds that are not done yet."""
        rounds = self.configuration.num_server_rounds
        result = TrainingResult(self.parts, self.directory / LAST_FOLDER)
        if rounds:
            self.strategy.summary()
        if self.configuration.initial_head == "closed-form" and not self.journal.state.completed:
            self._take_closed_form_head()
        for server_round in range(1, rounds + 1):
            step = f"train-{server_round:04d}"
            if result.ended or self.journal.done(step) or self.strategy.exhausted:
                continue
            with self.journal.ledger.timed("federated"):
                self.rounds.carry_out(server_round, "federated")
                result.after_round(server_round)
                last = result.ended or server_round == rounds or self.strategy.exhausted
                if last and (spent := self.strategy.privacy_spent()) is not None:
                    self.journal.record(spent)
                if last and self.strategy.has_global_model:
                    own_models.complete(self.parts)
                    self.measuring.close_stage("federated")
            self.commit(step)
        result.settle()
        if rounds == 0 and not self.journal.done(BEFORE_ROUNDS):
            log.info("no rounds: the clients are asked about the initial weights")
            self.commit(BEFORE_ROUNDS)

    def _take_closed_form_head(self) -> None:
        trained = self._trained("", Acceptance(self.parts))
        settings = Settings.of(self.configuration, prior_left(self.configuration))
        with self.journal.ledger.timed("federated"):
            self.model.state = with_closed_form_head(trained, settings)
        # What is judged later is held against the model of the rounds, and not against this start.
        self.journal.state.kept = None
        self.rounds.note_start()
        self.commit(BEFORE_ROUNDS)

    def post_train(self) -> None:
        """Carry out the post-training methods, each from what the one before it left."""
        configuration = self.configuration
        settings = Settings.of(configuration, prior_left(configuration))
        acceptance = Acceptance(self.parts)
        acceptance.settle()
        names = configuration.post_training_for(self.description.image_size)
        log.info("post-training: %s", names)
        for method in _methods(configuration, self.description.image_size)[0].values():
            method.run(self._trained(method.prefix, acceptance), settings)

    def _trained(self, prefix: str, acceptance: Acceptance) -> TrainedFederation:
        stored = PseudoImagesStored(self.directory, self.description.class_names)
        folder, pixels = self.directory / "pseudo_data", self.description.normalization
        files = PseudoFiles(folder, pixels, prefix, lambda: self.journal.record(stored))
        return TrainedFederation(prefix, self.parts, self.rounds, acceptance, files, self.pool)

    def resume(self) -> bool:
        """Take up the state of the last checkpoint of the run's directory, if there is one.

        Nothing on disk is changed yet: it may turn out that these are not the run's clients.
        """
        loaded = self.journal.checkpoints.load(self.configuration.stage_names)
        if loaded is None:
            return False
        self.model.state = loaded.global_state
        self.journal.take_up(loaded)
        self.clients.take_up(loaded)
        self.clients.participants.recall(loaded.nodes)
        self.strategy.declare(loaded.versions)
        if loaded.memory:
            self.strategy.restore(loaded.memory)
        return True

    def commit(self, step: str) -> None:
        """Make a finished step durable: a run that is killed now goes on behind it."""
        state = self.journal.state
        state.global_state = self.model.state
        state.nodes = self.clients.participants.remember()
        state.memory = self.strategy.memory()
        state.versions = self.strategy.versions()
        self.journal.commit(step)
        self.strategy.retained = self.journal.checkpoints.retained()
        release_memory(self.model.device)

    def begin(self) -> None:
        """Take the initial weights, or drop what was done behind the state that was taken up."""
        configuration, state = self.configuration, self.journal.state
        if not state.completed:
            self.model.state = initial_state(configuration, self.description, self.model.shell)
            if configuration.initial_weights and not configuration.measures_pixels:
                pixels = self.description.normalization
                state.normalization = {"mean": list(pixels.mean), "std": list(pixels.std)}
        for name in (run_directory.SUMMARY, PROGRESS):
            (self.directory / name).unlink(missing_ok=True)
        opened = RunOpened(self.directory, configuration, self.description.class_names)
        self.journal.open(opened)
        own_models.begin(self.parts, self.directory)
        if state.completed:
            self.strategy.retained = self.journal.checkpoints.retained()
            self.strategy.prune()
            log.info("resuming behind step %s", state.completed[-1])
        forget_repeated(self.directory / "pseudo_data", state.completed)
        # Like the summary, the model is there when a run is done, and the last round's before.
        shutil.rmtree(self.directory / _MODEL, ignore_errors=True)
        if not self.journal.done(ENDED):
            shutil.rmtree(self.directory / LAST_FOLDER, ignore_errors=True)

    def _write_configuration(self) -> None:
        run_directory.write_configuration(
            self.directory, self.configuration, str(self.model.device), self.description
        )

    def _keep_model(self, summary: dict[str, Any]) -> None:
        if not self.strategy.has_global_model:
            name = self.configuration.strategy
            log.info("strategy %r has no global model: no model/ is written", name)
            return
        target = self.directory / _MODEL
        description = self.model.write(target, self.description)
        if (said := summary.get("personal")) is not None:
            run_directory.write_json(target / OWN_LAYERS, said)
        self.journal.record(ModelKept(target, description, self.journal.ledger.kept, summary))
        log.info("model: %s", target)

    def _summary(self) -> dict[str, Any]:
        """Return the content of ``summary.json``; a stage that did not run is None."""
        configuration, ledger = self.configuration, self.journal.ledger
        has_model, size = self.strategy.has_global_model, self.description.image_size
        methods = ",".join(_methods(configuration, size)[0]) if has_model else ""
        return {
            "status": "completed",
            "strategy": configuration.strategy,
            "post_training": methods or "none",
            "left_out": left_out(configuration, size, has_model),
            "dataset": configuration.dataset,
            "seed": configuration.seed,
            "clients": configuration.num_clients,
            "rounds": rounds_done(self.journal.state.completed),
            **ledger.results(ledger.kept if has_model else None),
        }


def _log_images(configuration: RunConfiguration, description: Description) -> None:
    log.info("%d classes: %s", description.classes, listed(description.class_names))
    resized = " (resized)" if description.resized else ""
    colour = "grey" if description.channels == 1 else "RGB"
    augmentation = configuration.augmentation_for(description.augmentation)
    size = "images: %dx%d pixels%s, %s; augmentation: %s"
    log.info(size, *description.image_size, resized, colour, augmentation)
    if configuration.measures_pixels:
        pixels = description.normalization
        mean, std = (", ".join(f"{v:.4f}" for v in each) for each in (pixels.mean, pixels.std))
        told = "normalization: mean %s and deviation %s, of the clients' training images"
        log.info(told, mean, std)


def _post_trains(configuration: RunConfiguration) -> bool:
    return configuration.stage_names != ("train",) and configuration.post_training != "none"


def _methods(
    configuration: RunConfiguration, image_size: tuple[int, int]
) -> tuple[dict[str, Method], list[str]]:
    """Return the methods that are carried out, and the names of those that the stages leave out."""
    if not _post_trains(configuration):
        return {}, []
    text = configuration.post_training_for(image_size)
    names, methods = method_names(text), chosen(text)
    last = len(names)
    if "compete" not in configuration.stage_names:
        # What comes behind a method of several stages wants its last stage's result.
        last = next((i for i, method in enumerate(methods, start=1) if method.has_stages), last)
    return dict(zip(names[:last], methods, strict=False)), names[last:]


def left_out(
    configuration: RunConfiguration, image_size: tuple[int, int], has_model: bool
) -> list[str]:
    """Say what is asked for, and cannot be with this run's settings."""
    asked = configuration.post_training
    if not _post_trains(configuration):
        return []
    if not has_model:
        return [
            f"strategy {configuration.strategy!r} has no global model: post-training={asked} is "
            "left out, and no model is kept"
        ]
    found = []
    names = configuration.post_training_for(image_size)
    if names == "none":
        private = configuration.section(PrivacySettings)
        found.append(
            f"post-training=auto is none with privacy.clipping={private.clipping}: it would ask "
            "for one client's model or images at a time, which is not part of ε"
            if private.on
            else f"post-training=auto is none with personal={configuration.personal}: the clients' "
            "models come without their BatchNorm"
        )
    elif names != methods_for(asked, image_size, True):
        uniform = configuration.label_counts == "uniform"
        found.append(
            f"post-training={asked} leaves calibration out: "
            f"{'label-counts=uniform' if uniform else 'generation.place=client'} keeps the "
            "clients' label counts from the server. post-training=fedf2dg,calibration calibrates "
            "on pseudo images"
        )
    if behind := _methods(configuration, image_size)[1]:
        found.append(
            f"{' and '.join(behind)} comes behind the competition, which stages="
            f"{configuration.stages} leaves out: competition.rounds=0 leaves out the competition "
            "alone"
        )
    return found


def _warn_of_judges(
    configuration: RunConfiguration, participants: Participants, measured_by: str
) -> None:
    """Say before any work that clients hold no image out, and what follows from it."""
    post_trains = _post_trains(configuration)
    without = sorted(set(participants.clients) - set(participants.judges))
    judged = post_trains and configuration.acceptance == "clients"
    measured = measured_by == CLIENTS
    if not without or not (judged or measured):
        return
    if len(without) < len(participants):
        names = participants.names()
        who = listed([names[client] for client in without])
        log.warning("no image is held out by %s: nothing is measured or judged there", who)
        return
    if judged:
        log.warning(
            "nobody will judge: no client holds an image out (validation-share=%g). The result of "
            "every stage will be kept, whether it helps or harms",
            configuration.validation_share,
        )
    if measured:
        log.warning(
            "nothing will be measured: the server has no test image, and no client holds one out"
        )
