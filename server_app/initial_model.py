"""The model that a run starts from: fresh, or with weights that the user gives."""

from __future__ import annotations

import logging

from foundation.data import Description, Normalization
from foundation.models import Classifier, State, cpu_state
from foundation.models.initial_weights import fitted, pixel_constants, read_weights
from foundation.settings.configuration import RunConfiguration

log = logging.getLogger("flwr.fedf2dg")


def initial_state(
    configuration: RunConfiguration, description: Description, model: Classifier, say: bool = True
) -> State:
    """Return the state of the global model before the first round.

    Parameters
    ----------
    configuration : RunConfiguration
        ``initial-weights`` names the weights, if any.
    description : Description
        The federation's images; a head that was trained on other classes is not taken.
    model : Classifier
        The run's model with its fresh weights.
    say : bool (default: True)
        Whether to log what is taken.

    Raises
    ------
    InitialWeightsError
        If the weights cannot be read, or are another network's.
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
                "initial weights: they were trained on pixels of mean %s and deviation %s; here "
                "these are %s and %s",
                wished.mean,
                wished.std,
                here.mean,
                here.std,
            )
    log.info("initial weights: %s%s", source, "".join(f"; {sentence}" for sentence in left))
    return state
