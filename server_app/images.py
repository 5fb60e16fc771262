"""What the server knows of the federation's images, and that a run goes on with its own.

What was a test image must not be trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foundation.data import DataSet, Description, Division, Normalization, announced, parsed_shape
from foundation.errors import log
from foundation.messages.participants import Participants
from foundation.models import torchvision_models
from foundation.models.initial_weights import IMAGENET, pixel_constants
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from foundation.wording import listed

from .checkpoints import CheckpointError


def description_of(configuration: RunConfiguration) -> Description:
    """Describe the federation's images, and how their pixels are normalised.

    A server that has none takes the keys ``class-names`` and ``image-shape`` at their word.
    ConfigurationError if these contradict the images that it has, or ``image-size``.
    """
    description = _described(configuration)
    constants = _wanted(configuration)
    if constants is None:
        return description
    return replace(
        description, normalization=Normalization.of_weights(*constants, description.channels)
    )


def _wanted(configuration: RunConfiguration) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and deviation that something else than the data set says; None: nothing."""
    if configuration.normalization == "imagenet":
        return torchvision_models.MEAN, torchvision_models.STD
    if configuration.normalization != "auto":
        return None
    source = configuration.initial_weights
    if source and configuration.resume_from:
        source = IMAGENET  # an earlier run may be gone; its constants are in the checkpoint
    try:
        return pixel_constants(source, configuration.model)
    except ValueError as error:  # timm is not installed, or has no such model
        raise ConfigurationError(str(error)) from error


def normalized(description: Description, constants: Mapping[str, Sequence[float]]) -> Description:
    """Return the description with the ``mean`` and ``std`` that clients' images gave, if any."""
    if not constants:
        return description
    measured = Normalization(tuple(constants["mean"]), tuple(constants["std"]))
    return replace(description, normalization=measured)


def _described(configuration: RunConfiguration) -> Description:
    data_set, shape = configuration.data_set, configuration.image_shape
    if not data_set.is_here:
        side = data_set.image_size
        description = announced(data_set.name, data_set.class_names, shape).resized_to(side)
        if parsed_shape(shape) != description.image_shape:
            raise ConfigurationError(
                f"image-shape = {shape!r} and image-size = {side} contradict each other: with "
                f"image-size, all images are {side}x{side} pixels"
            )
        return description
    description = data_set.describe()
    if shape and parsed_shape(shape) != description.image_shape:
        own = "x".join(map(str, description.image_shape))
        raise ConfigurationError(f"image-shape = {shape!r}: the server's own images are {own}")
    return description


def described_data(
    division: Division, examples: Sequence[int], class_names: Sequence[str]
) -> dict[str, Any]:
    """Describe simulated clients' data for a checkpoint: counts, classes, digests of images."""
    division.data_set.warn_of_copies()
    here = division.digests() if division.data_set.has("train") else {}
    known = {"examples": list(examples), "classes": list(class_names)}
    drawn = {"drawn": "by content"} if division.data_set.draws_test() else {}
    return {**known, **here, **described_test(division.data_set), **drawn}


def described_test(data_set: DataSet) -> dict[str, Any]:
    """Describe the server's test images, if it has any."""
    return {"test": data_set.digest("test")} if data_set.has("test") else {}


def require_same_data(
    before: Mapping[str, Any], now: Mapping[str, Any], sites: Sequence[str] = ()
) -> None:
    """Compare two descriptions, as far as both go (CheckpointError); earlier ones told less.

    ``sites`` are the clients' names, where they have some.
    """
    if before and "drawn" in now and "drawn" not in before:
        log.warning(
            "this run began with a release that drew its test images by their place, and not by "
            "their content: about four of five of today's were trained on, and accuracies on them "
            "are too kind. Start it again to measure"
        )
    moved = [what for what in before.keys() & now.keys() if before[what] != now[what]]
    if "examples" in moved or "classes" in moved:
        raise CheckpointError(
            f"this run had clients with {listed(before['examples'])} training images of the "
            f"classes {listed(before['classes'])}; here they have {listed(now['examples'])} of "
            f"{listed(now['classes'])}. Resume it with the data it was made with"
        )
    if moved:
        others = [
            f"what {_changed(before[key], now[key], sites)} {verb}"
            for key, verb in (("train", "trained on"), ("held-out", "held out"))
            if key in moved
        ]
        others += ["the test images"] * ("test" in moved)
        raise CheckpointError(
            f"these are as many images as this run began with, but others: {', '.join(others)}. A "
            "test image may have been trained on. Were files replaced, renamed or moved? "
            "Resume it with the data it was made with"
        )


def warn_of_other_images(participants: Participants) -> None:
    """Say which real sites came back with other images: they may have new ones."""
    for name, (before, now) in participants.told_before_and_now().items():
        if before and now and before != now:
            log.warning(
                "%s came back with other images than before: what it held out may have been "
                "trained on, so that its judgement is too kind",
                name,
            )


def warn_of_other_test(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say that a server's test images have changed; a deployment may get new ones."""
    if "test" in before and before["test"] != now.get("test"):
        log.warning("the server's test images are not those of before: figures cannot be compared")


def _changed(before: Sequence[str], now: Sequence[str], sites: Sequence[str]) -> str:
    clients = [client for client, (a, b) in enumerate(zip(before, now, strict=True)) if a != b]
    if sites:
        return listed([sites[client] for client in clients])
    return f"client{'s' * (len(clients) > 1)} {listed(clients)}"
