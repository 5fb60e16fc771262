"""Write the model that a run keeps: the directory ``model/``, its result."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.events.family import ModelKept
from foundation.models import ModelDescription, write_model

from .federation import Federation

log = logging.getLogger("flwr.fedf2dg")

#: The folder's name in a run's directory, and that of the last round's model where it may differ.
FOLDER, LAST_FOLDER = "model", "model-last"


def write_kept_model(federation: Federation, summary: Mapping[str, Any]) -> Path | None:
    """Write ``model/``, and say that it is there, so that a card is put beside it.

    Parameters
    ----------
    federation : Federation
        After its last stage.
    summary : Mapping
        What ``summary.json`` will say; the card repeats it.

    Returns
    -------
    Path, optional
        None where the strategy has no global model.
    """
    if not federation.strategy.has_global_model:
        name = federation.configuration.strategy
        log.info("strategy %r has no global model: no model/ is written", name)
        return None
    description = described(federation)
    target = federation.directory / FOLDER
    write_model(target, description, federation.state.global_state)
    federation.record(ModelKept(target, description, federation.ledger.kept, summary))
    log.info("model: %s", target)
    return target


def described(federation: Federation) -> ModelDescription:
    """Return what a run's models are, for whoever uses them without the run."""
    data = federation.description
    return ModelDescription(
        architecture=federation.configuration.model,
        projection_dim=federation.global_model().projection_dim,
        classes=data.class_names,
        channels=data.channels,
        image_size=data.image_size,
        mean=data.normalization.mean,
        std=data.normalization.std,
    )


def forget_kept_model(directory: Path, training: bool) -> None:
    """Remove ``model/`` of a run that goes on: like the summary, it is there when a run is done.

    ``model-last/`` is there when training is done.
    """
    shutil.rmtree(directory / FOLDER, ignore_errors=True)
    if training:
        shutil.rmtree(directory / LAST_FOLDER, ignore_errors=True)
