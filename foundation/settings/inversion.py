"""What an inversion can be told: the weights of its objective and the way it is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from .declaration import ConfigurationError, Section, key, setting
from .forms import FORMS, Form

Precision = Literal["auto", "float32", "bfloat16"]
Compile = Literal["auto", "on", "off"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class InversionSettings(Section):
    """Settings of one inversion (DeepInversion, Yin et al. 2020, and FedF²DG's competition term).

    The defaults are those that were measured (``docs/performance.md``); :data:`PUBLISHED` are the
    published programs'.

    Parameters
    ----------
    iterations, learning_rate, schedule, betas : int, float, str, tuple
        Of Adam; the learning rate is in pixel units of the normalised images.
    tv_weight, l2_weight, bn_weight : float
        Weights of the objective's terms.
    competition_weight, competition_temperature : float
        Weight 0 gives common samples, above 0 hard samples, which need the global model. The
        temperature softens both models' predictions before they are compared.
    form : {"corrected", "reference"}
        See ``generation.objective``.
    jitter : int or None
        Images are rolled by up to so many pixels each way before every step. None: see
        :meth:`jitter_for`.
    precision : {"auto", "float32", "bfloat16"}
        Type of convolutions and matrix products; statistics, losses and images stay in float32.
        auto: bfloat16 where the hardware multiplies it natively and the model is large enough to
        gain.
    compile : {"auto", "on", "off"}
        Whether to fuse the objective with ``torch.compile``. auto: when the work outweighs the
        compilation.
    """

    iterations: int = key(
        100,
        "Optimisation steps per batch of images.",
        unit="steps",
        minimum=1,
        original="iters_mi",
        binds="generate",
    )
    learning_rate: float = key(
        1.6, "Adam's step size on the pixels.", above=0.0, original="di_lr", binds="generate"
    )
    schedule: Schedule = key(
        "cosine",
        "The step size over the iterations: constant (the original), or falling to 0 along half a "
        "cosine, which allows large first steps and needs a fraction of the iterations.",
        choices=get_args(Schedule),
        binds="generate",
    )
    # Both published CIFAR-10 programs use these; (0.5, 0.9) is of DeepInversion's for ImageNet.
    betas: tuple[float, float] = setting((0.9, 0.999), "Adam's decay rates, two numbers in [0, 1).")
    tv_weight: float = key(
        1e-3,
        "Weight of the total variation.",
        symbol="a_tv",
        minimum=0.0,
        original="di_var_scale",
        binds="generate",
    )
    l2_weight: float = key(
        0.0,
        "Weight of the images' norm.",
        symbol="a_l2",
        minimum=0.0,
        original="di_l2_scale",
        binds="generate",
    )
    bn_weight: float = key(
        1.0,
        "Weight of the distance to the BatchNorm statistics.",
        symbol="a_bn",
        minimum=0.0,
        original="r_feature_weight",
        binds="generate",
    )
    competition_weight: float = key(
        0.0,
        "Weight of the competition term for the common samples (hard ones: competition.weight).",
        symbol="a_c",
        minimum=0.0,
        original="cig_scale",
        binds="generate",
    )
    competition_temperature: float = setting(
        3.0, "Temperature of the predictions that are compared.", above=0.0
    )
    form: Form = key(
        "corrected",
        "The objective: corrected, or as the reference implementation writes it.",
        choices=FORMS,
        binds="generate",
    )
    jitter: int | None = setting(
        None, "Largest roll of the images.", kind=int, unit="pixels", minimum=0
    )
    precision: Precision = key(
        "auto",
        "Type of convolutions and matrix products; statistics, losses and images stay in float32. "
        "auto: bfloat16 on hardware that multiplies it, where the model is large enough to gain.",
        choices=get_args(Precision),
        binds="generate",
    )
    compile: Compile = key(
        "auto",
        "Whether the objective is compiled (on a GPU with CUDA graphs). auto: where the work "
        "outweighs the compilation. Without a compiler it goes on uncompiled, and says so.",
        choices=get_args(Compile),
        binds="run",
    )

    def __post_init__(self) -> None:
        """Refuse values no inversion can run with."""
        super().__post_init__()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigurationError(f"betas = {self.betas!r} must be two numbers in [0, 1)")

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        angle = math.pi * (iteration - 1) / self.iterations
        return self.learning_rate * 0.5 * (1.0 + math.cos(angle))

    def jitter_for(self, height: int, width: int) -> int:
        """Largest roll in pixels for images of a size; see :func:`usual_roll`."""
        return usual_roll(height, width) if self.jitter is None else self.jitter


#: The published programs' settings: 2,000 steps of 0.1.
PUBLISHED = InversionSettings(
    iterations=2000, learning_rate=0.1, schedule="constant", form="reference"
)


def usual_roll(height: int, width: int) -> int:
    """Return by how many pixels images of a size may be rolled: one per 16, at most 2.

    On 8x8 images a roll of a single pixel is a different picture (measured on the digits: the
    objective ends at 9 to 11 instead of 1.2 to 1.8), so there is none.
    """
    return min(2, min(height, width) // 16)
