"""An algorithm is a name and two halves."""

from collections.abc import Callable
from dataclasses import dataclass

from foundation.settings import Section
from foundation.settings.configuration import ConfigurationError, RunConfiguration

from .client import ClientAlgorithm
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
