"""The bias of the head, corrected from the clients' predictions or from pseudo images."""

from __future__ import annotations

import logging

from torch import Tensor

from foundation.models import State
from foundation.models.head import add_to_bias, head_name
from foundation.models.predictions import predicted_logits
from questions.class_statistics import StatisticsRequest

from .calibration_sources import NoAnswer, pseudo_images
from .head_bias import bias_from_images, bias_from_predictions
from .settings import Settings
from .trained import Trained

log = logging.getLogger("flwr.fedf2dg")


def calibrated_bias(trained: Trained, settings: Settings) -> tuple[State, bool]:
    """Return the global model with a corrected bias, and whether clients' predictions gave it.

    Raises
    ------
    NoAnswer
        If predictions are to be taken, and no client tells them and its label counts.
    """
    source = settings.calibration.from_
    if source != "pseudo":
        with trained.timed("calibrated"):
            state = _from_predictions(trained, settings)
        if state is not None:
            return state, True
    if source == "predictions":
        raise NoAnswer(
            "calibration.from = predictions: no client tells the mean of its predictions and its "
            "label counts. Set label-counts=uploaded, or calibration.from=pseudo"
        )
    return _from_pseudo_images(trained, settings), False


def _from_predictions(trained: Trained, settings: Settings) -> State | None:
    """Return the corrected state; None if no client tells its predictions and label counts."""
    state = trained.global_state
    for exchange in range(settings.calibration.exchanges):
        told = trained.ask(StatisticsRequest(state, predictions=True))
        if told is None or told.predictions is None or told.label_counts is None:
            return None
        bias = bias_from_predictions(told.label_counts, told.predictions)
        state = _corrected(trained, state, bias, "the clients' predictions")
        trained.note(
            "calibration",
            of="bias",
            source="predictions",
            exchange=exchange + 1,
            clients=len(told.clients),
            images=told.images,
            bias=bias.tolist(),
        )
    return state


def _from_pseudo_images(trained: Trained, settings: Settings) -> State:
    """Return the state whose bias fits the labels that pseudo images were made for."""
    data = pseudo_images(trained, settings)
    with trained.timed("calibrated"):
        logits = predicted_logits(trained.model(trained.global_state), data.images)
        bias = bias_from_images(logits, data.labels, settings.calibration.penalty)
        trained.note(
            "calibration", of="bias", source="pseudo", images=len(data), bias=bias.tolist()
        )
        return _corrected(trained, trained.global_state, bias, "pseudo images")


def _corrected(trained: Trained, state: State, bias: Tensor, source: str) -> State:
    changes = ", ".join(f"{value:+.2f}" for value in bias)
    log.info("bias of the head, from %s, changes by %s", source, changes)
    return add_to_bias(state, head_name(trained.model(state)), bias)
