"""The sections ``generation`` and ``competition``: inversions of two kinds, how many, and where."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from .declaration import Section, key, setting

#: corrected: as the papers define it. reference: as the published program computes it.
Form = Literal["corrected", "reference"]
FORMS: tuple[Form, ...] = get_args(Form)

Precision = Literal["auto", "float32", "bfloat16"]
Compile = Literal["auto", "on", "off"]
Schedule = Literal["constant", "cosine"]
Place = Literal["server", "client"]
Labels = Literal["principle", "balanced"]
BNDistance = Literal["absolute", "relative"]
Retrain = Literal["once", "every"]


@dataclass(frozen=True)
class InversionSettings(Section, binds="generate"):
    """Settings of one inversion (DeepInversion, Yin et al. 2020, and FedF²DG's competition term).

    The defaults are those that were measured (``docs/performance.md``); :data:`PUBLISHED` are the
    published programs'. A competition weight of 0 gives common samples, above 0 hard samples,
    which need the global model.
    """

    iterations: int = key(
        100, "Optimisation steps per batch of images.", unit="steps", minimum=1, original="iters_mi"
    )
    learning_rate: float = key(1.6, "Adam's step size on the pixels.", above=0.0, original="di_lr")
    schedule: Schedule = key(
        "cosine",
        "The step size over the iterations: constant (the original), or falling to 0 along half a "
        "cosine, which allows large first steps and needs a fraction of the iterations.",
    )
    tv_weight: float = key(
        1e-3, "Weight of the total variation.", symbol="a_tv", minimum=0.0, original="di_var_scale"
    )
    l2_weight: float = key(
        0.0, "Weight of the images' norm.", symbol="a_l2", minimum=0.0, original="di_l2_scale"
    )
    bn_weight: float = key(
        1.0,
        "Weight of the distance to the BatchNorm statistics.",
        symbol="a_bn",
        minimum=0.0,
        original="r_feature_weight",
    )
    bn_distance: BNDistance = key(
        "absolute",
        "How that distance adds up the layers: absolute (the paper), or relative, each in the unit "
        "of its own statistics, for encoders whose layers differ by orders of magnitude, such as "
        "efficientnet_lite0.",
    )
    competition_weight: float = key(
        0.0,
        "Weight of the competition term for the common samples (hard ones: competition.weight).",
        symbol="a_c",
        minimum=0.0,
        original="cig_scale",
    )
    form: Form = key(
        "corrected",
        "The objective: corrected, or as the reference implementation writes it.",
    )
    jitter: int | None = setting(
        None, "Largest roll of the images.", kind=int, unit="pixels", minimum=0
    )
    precision: Precision = key(
        "auto",
        "Type of convolutions and matrix products; statistics, losses and images stay in float32. "
        "auto: bfloat16 on hardware that multiplies it, where the model is large enough to gain.",
    )
    compile: Compile = key(
        "auto",
        "Whether the objective is compiled (on a GPU with CUDA graphs). auto: where the work "
        "outweighs the compilation. Without a compiler it goes on uncompiled, and says so.",
        binds="run",
    )

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


@dataclass(frozen=True)
class GenerationSettings(InversionSettings):
    """Model inversion and the data generation principle (Zhao et al. 2024)."""

    images_per_client: int = key(
        64,
        "Mean number of pseudo images per client and batch (B of the data generation principle).",
        unit="images",
        symbol="B",
        minimum=1,
        original="bs",
    )
    batches: int = key(
        1,
        "Batches of common samples; from the second on budgets follow the quality term.",
        minimum=1,
        original="num_batch",
    )
    labels: Labels = key(
        "principle",
        "Which classes images are made for. principle: each client's own label distribution (the "
        "paper), which makes few images of rare classes, or none. balanced: as many of every "
        "class, each shared out over the clients by how many images of it they hold.",
    )
    place: Place = key("server", "Where local models are inverted.")

    def of_kind(self, kind: str, competition: "CompetitionSettings") -> InversionSettings:
        """Return what a "common" inversion is told, or a "hard" one, whose weight is another."""
        return replace(self, competition_weight=competition.weight) if kind == "hard" else self


@dataclass(frozen=True)
class CompetitionSettings(Section, binds="compete"):
    """The competition loop: hard samples, on which local and global model disagree."""

    rounds: int = key(
        1,
        "Repetitions of (local training,) hard samples, distillation; 0: what comes behind the "
        "competition follows the first distillation.",
        minimum=0,
        original="comm_round",
    )
    batches: int = key(
        1, "Batches of hard samples per repetition.", minimum=1, original="num_batch"
    )
    weight: float = key(
        10.0,
        "Weight of the competition term, 1 - JS(local, global).",
        symbol="a_c",
        minimum=0.0,
        original="cig_scale",
    )
    retrain: Retrain = key(
        "every",
        "Train a federated round from the distilled model before every repetition (the paper's "
        "figure), or only before the first (what the reference implementation does).",
    )
