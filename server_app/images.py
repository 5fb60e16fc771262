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
from foundation.settings.configuration import ConfigurationError, RunConfiguration


def description_of(configuration: RunConfiguration) -> Description:
    """Describe the federation's images, and how their pixels are normalised.

    A server that has none takes the keys ``class-names`` and ``image-shape`` at their word.

    Raises
    ------
    ConfigurationError
        If ``image-shape`` is not that of the server's images, or not what ``image-size`` makes.
    DataError
        If the images cannot be read, or nothing is said of images that are not there.
    """
    description = _described(configuration)
    if configuration.normalizes_as_imagenet:
        return replace(description, normalization=Normalization.imagenet(description.channels))
    return description


def normalized(description: Description, constants: Mapping[str, Sequence[float]]) -> Description:
    """Return the description with the constants that the clients' images gave, if they did.

    Parameters
    ----------
    description : Description
        As :func:`description_of` knows it.
    constants : Mapping
        ``mean`` and ``std`` by channel, as a checkpoint holds them; or nothing.
    """
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
