"""The section ``calibration``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .declaration import Section, key

Part = Literal["bias"]
Source = Literal["auto", "predictions", "pseudo"]


@dataclass(frozen=True)
class CalibrationSettings(Section):
    """Correcting the head of the global model after training."""

    of: Part = key(
        "bias",
        "What is corrected: the head's bias.",
        choices=get_args(Part),
        binds="generate",
    )
    from_: Source = key(
        "auto",
        "What it is corrected from: predictions, the mean of the model's softmax over the clients' "
        "training images, which they are asked for; pseudo images, for which nothing is sent; or "
        "auto, predictions where clients can answer and pseudo images otherwise.",
        choices=get_args(Source),
        binds="generate",
    )
    exchanges: int = key(
        1,
        "How often clients are asked for predictions; the second time refines the bias.",
        minimum=1,
        maximum=2,
        binds="generate",
    )
    penalty: float = key(
        0.3,
        "Shrinkage λ of a bias that is fitted on pseudo images, which can point the wrong way.",
        symbol="λ",
        minimum=0.0,
        binds="generate",
    )
