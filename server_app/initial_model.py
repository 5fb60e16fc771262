"""The model that a run starts from: fresh, or with weights that the user gives."""

from __future__ import annotations

import logging

from foundation.data import Description
from foundation.models import Classifier, State, cpu_state
from foundation.models.initial_weights import fitted, read_weights
from foundation.settings.configuration import RunConfiguration

log = logging.getLogger("flwr.fedf2dg")


def initial_state(
    configuration: RunConfiguration, description: Description, model: Classifier
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

    Raises
    ------
    InitialWeightsError
        If the weights cannot be read, or are another network's.
    """
    source = configuration.initial_weights
    if not source:
        return cpu_state(model)
    given, known = read_weights(source, configuration.model)
    same = known is None or known.classes == description.class_names
    state, left = fitted(model, given, same_classes=same)
    here = description.normalization
    unlike = known is not None and (known.mean, known.std) != (here.mean, here.std)
    # What the clients' pixels give is not known yet.
    if known is not None and unlike and not configuration.measures_pixels:
        log.warning(
            "initial weights: they were trained on pixels of mean %s and deviation %s; here these "
            "are %s and %s",
            known.mean,
            known.std,
            here.mean,
            here.std,
        )
    log.info("initial weights: %s%s", source, "".join(f"; {sentence}" for sentence in left))
    return state
