"""An algorithm is a name and two halves: how it is found, and what follows for model and loss."""

from collections.abc import Callable
from dataclasses import dataclass

from foundation.data import Description
from foundation.members import LOCAL_LOSSES, STRATEGIES
from foundation.models import Classifier, build
from foundation.models.freezing import freeze
from foundation.seeds import MODEL, derived_seed
from foundation.settings import Section
from foundation.settings.algorithms import MoonSettings
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from foundation.settings.federated_training import LOSSES_OF_THE_LOOP

from .client import ClientAlgorithm
from .local_loss import LocalLoss
from .server import FederatedStrategy


@dataclass(frozen=True)
class Algorithm:
    """What a strategy file declares, as ``algorithm = Algorithm(...)``.

    The name is the value of the key ``strategy``. ``projection``: whether the shared model gets a
    projection head (``moon.projection-dim``). ``local_loss``: the one that the algorithm consists
    of; empty: what ``local-loss`` says. ``check`` raises a :class:`.ConfigurationError` for
    settings under which the algorithm cannot work, before any work is done. ``settings``: its own
    section of the run's keys, where it is not one of ours (``foundation/settings``).
    """

    name: str
    server: type[FederatedStrategy] = FederatedStrategy
    client: type[ClientAlgorithm] = ClientAlgorithm
    projection: bool = False
    local_loss: str = ""
    check: Callable[[RunConfiguration], None] = lambda configuration: None
    settings: type[Section] | None = None

    def loss_name(self, configuration: RunConfiguration) -> str:
        """Return the name of the local loss under a configuration."""
        return self.local_loss or configuration.local_loss

    def require(self, configuration: RunConfiguration) -> None:
        """Raise a ConfigurationError if a configuration contradicts the algorithm."""
        asked = configuration.local_loss
        if self.local_loss and asked not in (self.local_loss, RunConfiguration.local_loss):
            raise ConfigurationError(
                f"strategy = {self.name!r} is federated averaging with the local loss "
                f"{self.local_loss!r}, and local-loss = {asked!r} contradicts it: leave local-loss "
                f"out, or use it with another strategy, e.g. strategy=fedavg local-loss={asked}"
            )
        self.check(configuration)


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
