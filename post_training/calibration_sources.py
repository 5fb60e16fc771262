"""What calibration learns from: pseudo images, made once, or the clients' answers."""

from __future__ import annotations

from foundation import ExpectedError
from foundation.seeds import CALIBRATION, derived_seed
from generation import PseudoData

from .pseudo_order import order_images
from .settings import Settings
from .steps import carry_out
from .trained import Trained


class NoAnswer(ExpectedError, RuntimeError):
    """The clients do not tell what the chosen source of the calibration needs."""


def pseudo_images(trained: Trained, settings: Settings) -> PseudoData:
    """Return common samples of the local models; they are made the first time."""

    def make() -> None:
        seed = derived_seed(settings.seed, CALIBRATION)
        trained.store["images"] = order_images(trained, settings, "common", seed)

    carry_out(trained, "images", make, seconds="generation")
    return trained.store["images"]
