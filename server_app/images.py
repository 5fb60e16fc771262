"""What the server knows of the federation's images: from its own, or from the configuration."""

from __future__ import annotations

from configuration import ConfigurationError, RunConfiguration
from federated_data import OWN_SETS, Description, announced, describe, parsed_shape


def description_of(configuration: RunConfiguration) -> Description:
    """Describe the federation's images.

    A server that has none takes the keys ``class-names`` and ``image-shape`` at their word.

    Raises
    ------
    ConfigurationError
        If ``image-shape`` is not that of the server's images.
    DataError
        If the images cannot be read, or nothing is said of images that are not there.
    """
    dataset, names, shape = configuration.dataset, configuration.classes, configuration.image_shape
    if dataset in OWN_SETS and not configuration.data_dir:
        return announced(dataset, names, shape)
    description = describe(dataset, configuration.data_dir, class_names=names)
    if shape and parsed_shape(shape) != description.image_shape:
        own = "x".join(map(str, description.image_shape))
        raise ConfigurationError(f"image-shape = {shape!r}: the server's own images are {own}")
    return description
