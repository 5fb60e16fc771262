"""The story of a run, on one page: clients, rounds, post-training, summary, report."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from flwr.serverapp import Grid

from foundation import counted
from foundation.data.names import listed
from foundation.events.family import Listener, RunCompleted, RunEnded, RunStarted
from foundation.processes import Workers
from foundation.settings.configuration import RunConfiguration
from post_training import Settings, chosen
from strategies import prior_left

from . import run_directory
from .acceptance import Acceptance
from .checkpoints import ENDED, WITHOUT_ROUNDS, rounds_done
from .disk import disk_errors_explained
from .federation import Federation
from .kept_model import forget_kept_model, write_kept_model
from .measuring import CLIENTS
from .trained import TrainedFederation
from .training_result import TrainingResult

log = logging.getLogger("flwr.fedf2dg")

_MOST_NAMES = 10


def run(
    grid: Grid,
    configuration: RunConfiguration,
    workers: Workers | None = None,
    must_stop: Callable[[str], str | None] | None = None,
    listeners: Sequence[Listener] = (),
) -> dict[str, Any]:
    """Carry out a run from the chosen first stage to its report.

    Parameters
    ----------
    grid : Grid
        Flower's grid, or the in-process one.
    configuration : RunConfiguration
        A configuration that passed :func:`server_app.preflight.check`.
    workers : Workers, optional
        Processes that are free while the grid has nothing to do; otherwise the run starts its own
        when it needs them.
    must_stop : callable, optional
        What the engine knows of failed clients: gets the reason of one, and says why the run cannot
        go on after it; None if it can.
    listeners : sequence of Listener (default: none)
        Get every event.

    Returns
    -------
    dict[str, Any]
        The content of ``summary.json``.
    """
    directory = run_directory.prepare(configuration)
    log.info("run directory: %s", directory)
    with (
        disk_errors_explained(directory),
        run_directory.reserved(directory),
        Federation(grid, configuration, directory, workers, must_stop, listeners) as federation,
    ):
        if federation.resume():
            # Before anything of that run is replaced.
            federation.meet_clients()
        federation.begin()
        forget_kept_model(directory, training=not federation.done(ENDED))
        try:
            return _carry_out(federation)
        except BaseException as error:
            # Whoever follows the run is to know; a resumed run goes on before this event.
            with contextlib.suppress(OSError):  # of a full disk, say, which is the error itself
                status = "failed" if isinstance(error, Exception) else "interrupted"
                federation.record(RunEnded(status, str(error) or type(error).__name__))
            raise


def _carry_out(federation: Federation) -> dict[str, Any]:
    configuration, directory = federation.configuration, federation.directory
    # Before anything else is done: whoever resumes the run must find what it was.
    run_directory.write_configuration(
        directory, configuration, str(federation.device), federation.description
    )
    if not federation.state.completed:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        federation.record(
            RunStarted(started, configuration.strategy, configuration.dataset, configuration.seed)
        )
        federation.meet_clients()
        if configuration.measures_pixels:  # and are known now
            run_directory.write_configuration(
                directory, configuration, str(federation.device), federation.description
            )
    _log_images(federation)
    federation.note_clients()
    _warn_of_what_is_left_out(federation)
    if "train" in configuration.stage_names:
        train(federation)
    if configuration.stage_names != ("train",):
        post_train(federation)
    federation.ledger.note_total_time()
    federation.checkpoints.finish()
    summary = summarize(federation)
    write_kept_model(federation, summary)
    federation.record(RunEnded(summary["status"]))
    run_directory.write_json(directory / "summary.json", summary)
    federation.record(RunCompleted(directory, summary, federation.description.class_names))
    return summary


def _log_images(federation: Federation) -> None:
    description = federation.description
    height, width = description.image_size
    log.info("%d classes: %s", description.classes, listed(description.class_names))
    log.info(
        "images: %dx%d pixels%s, %s; augmentation: %s",
        height,
        width,
        " (resized)" if description.resized else "",
        "grey" if description.channels == 1 else "RGB",
        federation.configuration.augmentation_for(description.augmentation),
    )
    if federation.configuration.measures_pixels:
        log.info(
            "normalization: mean %s and deviation %s, of the clients' training images",
            *(
                ", ".join(f"{value:.4f}" for value in values)
                for values in (description.normalization.mean, description.normalization.std)
            ),
        )


def _warn_of_what_is_left_out(federation: Federation) -> None:
    """Say before any work what this run's settings and clients rule out."""
    configuration, participants = federation.configuration, federation.participants
    post_trains = configuration.stage_names != ("train",) and configuration.post_training != "none"
    if post_trains and not federation.strategy.has_global_model:
        log.warning(
            "strategy %r has no global model: post-training=%s is left out, and no model is kept",
            configuration.strategy,
            configuration.post_training,
        )
        return
    without = [c for c in participants.clients if not sum(participants[c].held_out)]
    judged = post_trains and configuration.acceptance == "clients"
    measured = federation.measuring.by == CLIENTS
    if not without or not (judged or measured):
        return
    if len(without) < len(participants):
        names = participants.names()
        more = len(without) - _MOST_NAMES
        log.warning(
            "no image is held out by %s%s: nothing is measured or judged there",
            ", ".join(names[client] for client in without[:_MOST_NAMES]),
            f" and {counted(more, 'other')}" if more > 0 else "",
        )
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


def train(federation: Federation) -> None:
    """Run the federated rounds that are not done yet."""
    rounds = federation.configuration.num_server_rounds
    result = TrainingResult(federation)
    federation.strategy.summary()
    for server_round in range(1, rounds + 1):
        step = f"train-{server_round:04d}"
        if result.ended or federation.done(step):
            continue
        with federation.ledger.timed("federated"):
            federation.train_round(server_round, "federated")
            result.after_round(server_round)
            last = result.ended or server_round == rounds
            if last and federation.strategy.has_global_model:
                federation.close_stage("federated")
        federation.commit(step)
    result.settle()
    if rounds == 0 and not federation.done(WITHOUT_ROUNDS):
        log.info("no rounds: the clients are asked about the initial weights")
        federation.commit(WITHOUT_ROUNDS)


def post_train(federation: Federation) -> None:
    """Run the post-training methods, each from what the one before it left."""
    configuration = federation.configuration
    if not federation.strategy.has_global_model:
        return
    settings = Settings.of(configuration, prior_left(configuration))
    acceptance = Acceptance(federation)
    acceptance.settle()
    names = configuration.post_training_for(federation.description.image_size)
    log.info("post-training: %s", names)
    methods = chosen(names)
    for place, method in enumerate(methods, start=1):
        method.run(TrainedFederation(federation, method.prefix, acceptance), settings)
        if method.has_stages and "compete" not in settings.stages:
            # What comes behind it wants its last stage's result.
            if behind := [later.name for later in methods[place:]]:
                log.warning(
                    "%s comes behind the competition, which stages=%s leaves out: "
                    "competition.rounds=0 leaves out the competition alone",
                    " and ".join(behind),
                    configuration.stages,
                )
            return


def summarize(federation: Federation) -> dict[str, Any]:
    """Return the content of ``summary.json``; a stage that did not run is None."""
    configuration, ledger = federation.configuration, federation.ledger
    has_model = federation.strategy.has_global_model
    methods = configuration.post_training_for(federation.description.image_size)
    kept = ledger.kept if has_model else None

    results = ledger.results()

    return {
        "status": "completed",
        "strategy": configuration.strategy,
        "post_training": methods if has_model else "none",
        "dataset": configuration.dataset,
        "seed": configuration.seed,
        "clients": configuration.num_clients,
        "rounds": rounds_done(federation.state.completed),
        "accuracy": _with_selected(results.pop("accuracy"), kept),
        "measured": _with_selected(results.pop("measured"), kept),
        "seconds": {
            **dict.fromkeys(("federated", "generation", "distillation", "competition", "total")),
            **ledger.seconds,
        },
        **results,
    }


def _with_selected(by_stage: dict[str, Any], kept: str | None) -> dict[str, Any]:
    """Put what is known of the run's model, if it has one, behind the stages it came from."""
    selected = by_stage.pop("selected", None if kept is None else by_stage.get(kept))
    return {**by_stage, "selected": selected}
