"""Everything that can be known to be wrong before any work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation import counted
from foundation.data import FOLDERS
from foundation.data.batches import require_room
from foundation.data.names import shown
from foundation.errors import warn_once
from foundation.events.sinks import require_sinks
from foundation.models import StateLayout, resolve_device
from foundation.models.classifier import head_name
from foundation.models.client_store import batch_norm_entries
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from foundation.settings.post_training import AUTO
from foundation.wording import listed
from post_training import Settings, chosen, closed_form_head
from strategies import get, privacy, shared_model

from . import run_directory
from .checkpoints import Checkpoints
from .global_model import initial_state
from .images import described_data, description_of, require_same_data
from .measuring import CLIENTS, measurers


def parse(values: Mapping[str, Any]) -> RunConfiguration:
    """Parse a run configuration against everything this app offers (ConfigurationError)."""
    configuration = RunConfiguration.parse(values)
    every_folder = configuration.partition == FOLDERS and "num-clients" not in values
    if every_folder and (sites := configuration.data_set.sites()):
        values = {**values, "num-clients": len(sites)}
        configuration = RunConfiguration.parse(values)
    if configuration.post_training != AUTO:
        chosen(configuration.post_training)
    algorithm = get(configuration.strategy)
    algorithm.require(configuration)
    privacy.require(configuration, algorithm)
    if not algorithm.server.has_global_model:
        wants = {
            f"baseline = {configuration.baseline!r}": configuration.baseline != "none",
            f"patience = {configuration.patience}": configuration.patience,
            f"global-average = {configuration.global_average!r}": (
                configuration.global_average != "last"
            ),
        }
        if asked := " and ".join(key for key, wanted in wants.items() if wanted):
            raise ConfigurationError(
                f"strategy = {configuration.strategy!r} has no global model: leave {asked} out"
            )
    return configuration


def check(configuration: RunConfiguration, simulated: bool) -> None:
    """Check what needs the data, the checkpoints or the machine; the errors say what to do.

    Where clients are simulated here, their partition is tried.
    """
    if simulated:
        # Simulated clients take their images from data-dir, whatever the server is told of them.
        configuration.data_set.describe()
    description = description_of(configuration)
    try:
        resolve_device(configuration.device)
        model = shared_model(configuration, description)
        settings = Settings.of(configuration)
        if not configuration.resume_from or configuration.baseline == "local":
            initial_state(configuration, description, model, say=False)
        for method in chosen(configuration.post_training_for(description.image_size)):
            if method.suits is not None:
                method.suits(model, settings)
            if configuration.num_server_rounds == 0 and not method.asks_only:
                raise ConfigurationError(
                    f"post-training = {method.name!r} needs local models, and num-server-rounds = "
                    "0 makes none: choose head or calibration, or a round"
                )
        privacy.require_no_statistics(configuration, StateLayout.of(model))
        if configuration.personal == "batch-norm" and not batch_norm_entries(model):
            raise ConfigurationError(
                f"personal = 'batch-norm': model {configuration.model!r} with freeze = "
                f"{configuration.freeze!r} trains no BatchNorm: take a model with it, such as "
                "resnet8, or personal=head"
            )
        if configuration.personal == "head":
            head_name(model)
        if configuration.initial_head == "closed-form":
            closed_form_head.refuse(model, settings)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    require_room(configuration.augmentation_for(description.augmentation), description.image_size)
    if configuration.batch_size == 1 and model.has_batch_norm:
        raise ConfigurationError(
            f"batch-size = 1: model {configuration.model!r} has BatchNorm, which needs several "
            "images to compute with: take 2 or more"
        )
    data_set, resumed = configuration.data_set, configuration.resume_from
    if CLIENTS in measurers(configuration)[:1] and data_set.has_test_of_its_own():
        warn_once(
            f"evaluation={configuration.evaluation}: nobody uses the test images in "
            f"{shown(data_set.data_dir)}; evaluation=server or both measures on them"
        )
    require_sinks(configuration.sink_names)
    run_directory.locate(configuration)
    checkpoints, start = Checkpoints(Path(resumed, "checkpoints"), configuration), None
    if resumed:
        start = checkpoints.starting_point(configuration.stage_names)
    lost = checkpoints.steps_behind(start) if start and not configuration.output_dir else []
    if lost:
        raise ConfigurationError(
            f"stages = {configuration.stages!r} would run again in {resumed} and replace the "
            f"results of {listed(lost)}. Keep them with output-dir=ANOTHER, or say "
            f"output-dir={resumed} to replace them"
        )
    if simulated:
        division = configuration.division
        counts = [len(division.rows(client)[0]) for client in range(len(division.parts()))]
        trains = configuration.num_server_rounds > 0 and configuration.strategy != "centralized"
        if model.has_batch_norm and trains:
            _require_several_images(configuration, counts)
        if start is not None and (begun := checkpoints.data_at(start)):
            now = described_data(division, counts, description.class_names)
            require_same_data(begun, now, list(configuration.data_set.sites()))


def _require_several_images(configuration: RunConfiguration, counts: list[int]) -> None:
    few = [client for client, count in enumerate(counts) if count < 2]
    if not few:
        return
    if names := list(configuration.data_set.sites()):
        who = f"site {names[few[0]]} has {counted(counts[few[0]], 'image')} to train on"
        remedy = "Give it more, take a model without BatchNorm, such as cnn"
    else:
        who = (
            f"{counted(len(few), 'client')} would have fewer than 2 images to train on (the first "
            f"is client {few[0]})"
        )
        smallest = configuration.min_partition_size
        remedy = f"Raise min-partition-size ({smallest}), take fewer clients"
    raise ConfigurationError(
        f"{who}: model {configuration.model!r} has BatchNorm, which needs several. {remedy}, or a "
        f"lower validation-share ({configuration.validation_share})"
    )
