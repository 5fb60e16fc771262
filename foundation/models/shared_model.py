"""The model that server and clients agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.seeds import MODEL, derived_seed
from foundation.settings.algorithms import MoonSettings
from foundation.settings.configuration import RunConfiguration

from .classifier import Classifier
from .freezing import freeze
from .registry import build

if TYPE_CHECKING:
    from foundation.data import Description


def shared_model(
    configuration: RunConfiguration, description: Description, projection: bool = False
) -> Classifier:
    """Build the run's model with its initial weights, which depend on the run's seed alone.

    Classes, channels and size of the images count. ``projection`` says whether the algorithm needs
    a projection head. A ValueError says that the model cannot be built for such images, or that
    ``freeze`` fits none of its layers.
    """
    model = build(
        configuration.model,
        classes=description.classes,
        channels=description.channels,
        image_size=description.image_size,
        projection_dim=configuration.section(MoonSettings).projection_dim if projection else 0,
        seed=derived_seed(configuration.seed, MODEL),
    )
    freeze(model, configuration.frozen_layers)
    return model
