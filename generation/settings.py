"""What an inversion can be told: the weights of its objective and the way it is computed."""

import math
from dataclasses import dataclass
from typing import Literal

from .objective import FORMS, Form

Precision = Literal["auto", "float32", "bfloat16"]
Compile = Literal["auto", "on", "off"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class InversionSettings:
    """Settings of one inversion; the defaults are the reference's.

    Parameters
    ----------
    iterations : int (default: 2000)
        Optimizer steps.
    learning_rate : float (default: 0.1)
        Of Adam, in pixel units of the normalised images.
    schedule : {"constant", "cosine"} (default: "constant")
        cosine: the learning rate falls to nearly 0 along half a cosine.
    betas : tuple of float (default: (0.9, 0.999))
        Of Adam. Both published CIFAR-10 programs use these; (0.5, 0.9) belongs to DeepInversion's
        ImageNet one.
    tv_weight, l2_weight, bn_weight : float (default: 1e-3, 0, 1)
        a_tv, a_l2 and a_bn of the objective.
    competition_weight : float (default: 0)
        a_c: 0 gives common samples, above 0 hard samples (the paper: 10), which need the global
        model.
    competition_temperature : float (default: 3)
        Softens both models' predictions before they are compared.
    form : {"corrected", "reference"} (default: "corrected")
        See ``generation.objective``.
    jitter : int or None (default: None)
        Images are rolled by up to so many pixels each way before every step. None: see
        ``jitter_for``.
    precision : {"auto", "float32", "bfloat16"} (default: "auto")
        Type of convolutions and matrix products; statistics, losses and images stay in float32.
        auto: bfloat16 where the hardware multiplies it natively and the model is large enough to
        gain.
    compile : {"auto", "on", "off"} (default: "auto")
        Whether to fuse the objective with ``torch.compile``. auto: when the work outweighs the
        compilation.
    """

    iterations: int = 2000
    learning_rate: float = 0.1
    schedule: Schedule = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    tv_weight: float = 1e-3
    l2_weight: float = 0.0
    bn_weight: float = 1.0
    competition_weight: float = 0.0
    competition_temperature: float = 3.0
    form: Form = "corrected"
    jitter: int | None = None
    precision: Precision = "auto"
    compile: Compile = "auto"

    def __post_init__(self) -> None:
        """Refuse values no inversion can run with."""
        _require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "betas",
            self.betas,
            "two numbers in [0, 1)",
        )
        for name in ("tv_weight", "l2_weight", "bn_weight", "competition_weight"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(
            self.competition_temperature > 0,
            "competition_temperature",
            self.competition_temperature,
            "above 0",
        )
        _require(
            self.jitter is None or self.jitter >= 0, "jitter", self.jitter, "None or 0 or more"
        )
        _require(self.form in FORMS, "form", self.form, f"one of {', '.join(FORMS)}")
        _require(
            self.schedule in ("constant", "cosine"),
            "schedule",
            self.schedule,
            "one of constant, cosine",
        )
        _require(
            self.precision in ("auto", "float32", "bfloat16"),
            "precision",
            self.precision,
            "one of auto, float32, bfloat16",
        )
        _require(
            self.compile in ("auto", "on", "off"), "compile", self.compile, "one of auto, on, off"
        )

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        angle = math.pi * (iteration - 1) / self.iterations
        return self.learning_rate * 0.5 * (1.0 + math.cos(angle))

    def jitter_for(self, height: int, width: int) -> int:
        """Largest roll in pixels for images of a size: one per 16 pixels, at most 2.

        On 8x8 images a roll of a single pixel is a different picture (measured on the digits: the
        objective ends at 9 to 11 instead of 1.2 to 1.8), so there is none.
        """
        if self.jitter is not None:
            return self.jitter
        return min(2, min(height, width) // 16)


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {value!r}: must be {wanted}")
