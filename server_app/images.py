"""What the server knows of the federation's images: from its own, or from the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from foundation.data import (
    Description,
    Normalization,
    announced,
    parsed_shape,
)
from foundation.models import torchvision_models
from foundation.models.initial_weights import IMAGENET, pixel_constants
from foundation.settings.configuration import ConfigurationError, RunConfiguration


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
