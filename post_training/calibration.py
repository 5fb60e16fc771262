"""Calibration: correct the bias of the global model's head, C numbers.

Averaging clients of skewed labels hurts the last layer's bias more than anything else (Luo et al.
2021 found the head to be the part that suffers most; the bias is most of it). It is corrected from
what the clients' training images say, one message of C numbers each, or, where nobody can answer,
from pseudo images of their local models.
"""

from __future__ import annotations

import logging

from torch import Tensor

from foundation import ExpectedError
from foundation.seeds import CALIBRATION, derived_seed
from models import State
from models.head import add_to_bias, head_name
from models.predictions import predicted_logits

from .class_statistics import StatisticsRequest
from .head_bias import bias_from_images, bias_from_predictions
from .method import Method
from .pseudo_order import order_images
from .settings import Settings
from .steps import carry_out
from .trained import Trained

log = logging.getLogger("flwr.fedf2dg")


class NoAnswer(ExpectedError, RuntimeError):
    """The clients do not tell what the chosen source of the calibration needs."""


def run(trained: Trained, settings: Settings) -> None:
    """Correct the bias from the clients' predictions, or from pseudo images."""
    source = settings.calibration.from_

    def correct() -> None:
        state = None if source == "pseudo" else _from_predictions(trained, settings)
        if state is None and source == "predictions":
            raise NoAnswer(
                "calibration.from = predictions: no client tells the mean of its predictions and "
                "its label counts. Set label-counts=uploaded, or calibration.from=pseudo"
            )
        trained.offer("calibrated", state or _from_pseudo_images(trained, settings))

    carry_out(trained, "bias", correct, seconds="calibrated")


method = Method("calibration", run, suits=lambda model, settings: head_name(model))


def _from_predictions(trained: Trained, settings: Settings) -> State | None:
    """Return the corrected state; None if no client tells its predictions and label counts."""
    state = trained.global_state
    for exchange in range(settings.calibration.exchanges):
        told = trained.class_statistics(StatisticsRequest(state, predictions=True))
        if told is None or told.predictions is None or told.label_counts is None:
            return None
        bias = bias_from_predictions(told.label_counts, told.predictions)
        state = _corrected(trained, state, bias)
        trained.note(
            "calibration",
            source="predictions",
            exchange=exchange + 1,
            clients=len(told.clients),
            images=told.images,
            bias=bias.tolist(),
        )
    return state


def _from_pseudo_images(trained: Trained, settings: Settings) -> State:
    """Return the state whose bias fits the labels that pseudo images were made for."""
    carry_out(trained, "images", lambda: _make_images(trained, settings), seconds="calibrated")
    data = trained.store["images"]
    model = trained.model(trained.global_state)
    bias = bias_from_images(
        predicted_logits(model, data.images), data.labels, settings.calibration.penalty
    )
    trained.note("calibration", source="pseudo", images=len(data), bias=bias.tolist())
    return _corrected(trained, trained.global_state, bias)


def _make_images(trained: Trained, settings: Settings) -> None:
    seed = derived_seed(settings.seed, CALIBRATION)
    trained.store["images"] = order_images(trained, settings, "common", seed)


def _corrected(trained: Trained, state: State, bias: Tensor) -> State:
    log.info("bias of the head changes by %s", ", ".join(f"{value:+.2f}" for value in bias))
    return add_to_bias(state, head_name(trained.model(state)), bias)
