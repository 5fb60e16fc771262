"""The algorithms and local losses by name, and what a run's algorithm makes of its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.members import LOCAL_LOSSES, STRATEGIES
from foundation.models import Classifier, build
from foundation.models.freezing import freeze
from foundation.seeds import MODEL, derived_seed
from foundation.settings.algorithms import MoonSettings
from foundation.settings.configuration import RunConfiguration
from foundation.settings.federated_training import LOSSES_OF_THE_LOOP

from .algorithm import Algorithm
from .local_loss import LocalLoss

if TYPE_CHECKING:
    from foundation.data import Description


def get(name: str) -> Algorithm:
    """Return an algorithm; a ConfigurationError lists the choices if there is none of that name."""
    return STRATEGIES.load(name, Algorithm)


def label_loss(name: str) -> LocalLoss:
    """Return a local loss that depends on labels; a ConfigurationError lists the choices."""
    return LOCAL_LOSSES.load(name, LocalLoss)


def prior_left(configuration: RunConfiguration) -> float:
    """Return how many times a client's log prior is in its model's logits after training.

    See :meth:`strategies.local_loss.ClientLoss.prior_left`.
    """
    name = get(configuration.strategy).loss_name(configuration)
    return 1.0 if name in LOSSES_OF_THE_LOOP else label_loss(name).loss.prior_left(configuration)


def shared_model(configuration: RunConfiguration, description: Description) -> Classifier:
    """Build the model that server and clients agree on, for images that are so described.

    Its initial weights depend on the run's seed alone. A ValueError says that the model cannot be
    built for such images, or that ``freeze`` fits none of its layers.
    """
    projected = get(configuration.strategy).projection
    model = build(
        configuration.model,
        classes=description.classes,
        channels=description.channels,
        image_size=description.image_size,
        projection_dim=configuration.section(MoonSettings).projection_dim if projected else 0,
        seed=derived_seed(configuration.seed, MODEL),
    )
    freeze(model, configuration.frozen_layers)
    return model
