"""The model that server and clients agree on."""

from __future__ import annotations

from typing import Protocol

from configuration import RunConfiguration
from models import Classifier, build

from .registry import get
from .seeds import MODEL, derived_seed


class ImageDescription(Protocol):
    """What a model must know of the data; ``federated_data.describe`` returns it."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def channels(self) -> int:
        """Number of image channels."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...


def shared_model(configuration: RunConfiguration, description: ImageDescription) -> Classifier:
    """Build the run's model with its initial weights, which depend on the run's seed alone."""
    projection = get(configuration.strategy).projection
    return build(
        configuration.model,
        classes=description.classes,
        channels=description.channels,
        image_size=description.image_size,
        projection_dim=configuration.moon.projection_dim if projection else 0,
        seed=derived_seed(configuration.seed, MODEL),
    )
