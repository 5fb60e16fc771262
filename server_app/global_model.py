"""The global model of a run: its state, and networks that hold it."""

from __future__ import annotations

from pathlib import Path

from foundation.data import Description
from foundation.messages.shared_model import shared_model
from foundation.models import (
    Classifier,
    ModelDescription,
    State,
    StateLayout,
    cpu_state,
    load_state,
    resolve_device,
    write_model,
)
from foundation.settings.configuration import RunConfiguration
from generation import forward_operations
from strategies import get


class GlobalModel:
    """The state that training and post-training change, on the CPU.

    Parameters
    ----------
    configuration : RunConfiguration
        Architecture, seed and device.
    description : Description
        The federation's images; their classes, channels and size count.
    """

    def __init__(self, configuration: RunConfiguration, description: Description) -> None:
        self._configuration = configuration
        self._description = description
        self._projection = get(configuration.strategy).projection
        self.device = resolve_device(configuration.device)
        #: One network on the device that holds one state after the other.
        self.shell = self._built()
        self.layout = StateLayout.of(self.shell)
        #: Floating-point operations of one image's forward pass.
        self.operations = forward_operations(self.shell, description.image_shape)
        #: Replaced, and never changed.
        self.state = cpu_state(self.shell)

    def holding(self, state: State) -> Classifier:
        """Return a new network that holds a state, on the run's device, in evaluation mode."""
        network = self._built()
        load_state(network, state)
        return network.eval()

    def copy(self) -> Classifier:
        """Return a new network that holds the global state."""
        return self.holding(self.state)

    def write(self, folder: Path, data: Description) -> ModelDescription:
        """Write the state as a directory of a model that anybody can use; see :mod:`fedf2dg.use`.

        Parameters
        ----------
        data : Description
            The federation's images, with the normalisation that was trained with.
        """
        description = ModelDescription(
            architecture=self._configuration.model,
            projection_dim=self.shell.projection_dim,
            classes=data.class_names,
            channels=data.channels,
            image_size=data.image_size,
            mean=data.normalization.mean,
            std=data.normalization.std,
        )
        write_model(folder, description, self.state)
        return description

    def _built(self) -> Classifier:
        network = shared_model(self._configuration, self._description, self._projection)
        return network.to(self.device)
