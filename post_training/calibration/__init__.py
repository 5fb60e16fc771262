"""Calibration: correct the bias of the global model's head, or refit the whole head.

Averaging clients of skewed labels hurts the last layer more than all others (Luo et al. 2021), and
most of that is its bias, C numbers. Either is corrected in closed form, from what the clients'
training images say, one message from each, or, where nobody can answer, from pseudo images of
their local models.
"""

from torch import nn

from foundation.models.classifier import head_name
from foundation.settings.calibration import BY_CLASS

from ..method import LARGEST_ANSWER, Method, Settings
from ..trained import Trained
from .bias import calibrated_bias
from .refitted_head import refitted_head


def run(trained: Trained, settings: Settings) -> None:
    """Correct what ``calibration.of`` names, and offer the result."""
    part = settings.calibration.of
    if trained.done(part):
        return
    if part == "head":
        trained.offer("calibrated", refitted_head(trained, settings), whole=True)
    else:
        state, from_clients = calibrated_bias(trained, settings)
        # What clients say of their images gained on all models it was tried on but one (-0.2
        # points); pseudo images can point the wrong way (docs/lab).
        trained.offer("calibrated", state, needs_proof=not from_clients)
    trained.commit(part)


def require(model: nn.Module, settings: Settings) -> None:
    """Refuse a model or settings that no calibration can work with (ValueError).

    The model needs a linear head with a bias, and answers of a size that can be sent; clients must
    be allowed to tell what the source needs.
    """
    source = settings.calibration.from_
    head = model.get_submodule(head_name(model))
    assert isinstance(head, nn.Linear)
    if source in BY_CLASS and not settings.exact_counts_told:
        raise ValueError(
            f"calibration.from = {source!r} shows how many images of each class a client has: it "
            "needs label-counts=uploaded and generation.place=server. Choose calibration.from="
            "pseudo or auto"
        )
    if source == "predictions" and not settings.label_counts_told:
        raise ValueError(
            "calibration.from = 'predictions' needs the clients' label counts, which label-counts="
            "uniform and generation.place=client keep from the server: choose calibration.from="
            "pseudo or auto"
        )
    classes, features = head.out_features, head.in_features
    size = 8 * classes * features**2
    if source == "covariances" and size > LARGEST_ANSWER:
        raise ValueError(
            f"calibration.from = 'covariances' has each client send {size // 10**6} MB, "
            f"{classes} classes of {features} x {features} numbers; at most "
            f"{LARGEST_ANSWER // 10**6} MB are allowed. Choose calibration.from=moments, which "
            f"needs {4 * features**2 / 10**6:.1f} MB"
        )


method = Method("calibration", run, suits=require, asks_only=True)
