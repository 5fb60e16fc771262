"""The global model of a run: the state it starts from, its state now, and networks that hold it."""

from pathlib import Path

from foundation.data import Description, Normalization
from foundation.errors import log
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
from foundation.models.initial_weights import fitted, pixel_constants, read_weights
from foundation.settings.configuration import RunConfiguration
from generation import forward_operations
from strategies import shared_model


class GlobalModel:
    """The state that training and post-training change, on the CPU."""

    def __init__(self, configuration: RunConfiguration, description: Description) -> None:
        self._configuration = configuration
        self._description = description
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

    def initial(self) -> State:
        """Return the state before the first round."""
        return initial_state(self._configuration, self._description, self._built(), say=False)

    def write(self, folder: Path, data: Description) -> ModelDescription:
        """Write the state as a model that anybody can use, with the run's normalisation."""
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
        return shared_model(self._configuration, self._description).to(self.device)


def initial_state(
    configuration: RunConfiguration, description: Description, model: Classifier, say: bool = True
) -> State:
    """Return the state of the global model before the first round (InitialWeightsError).

    A head that was trained on other classes than those described is not taken.
    """
    source = configuration.initial_weights
    if not source:
        return cpu_state(model)
    given, known = read_weights(source, configuration.model)
    same = None if known is None else known.classes == description.class_names
    state, left = fitted(model, given, same_classes=same)
    if not say:
        return state
    here, wanted = description.normalization, pixel_constants(source, configuration.model)
    if wanted is not None:
        wished = Normalization.of_weights(*wanted, description.channels)
        # What the clients' pixels give is not known yet.
        if wished != here and not configuration.measures_pixels:
            log.warning(
                f"initial weights: they were trained on pixels of mean {wished.mean} and deviation "
                f"{wished.std}; here these are {here.mean} and {here.std}"
            )
    log.info("initial weights: %s%s", source, "".join(f"; {sentence}" for sentence in left))
    return state
