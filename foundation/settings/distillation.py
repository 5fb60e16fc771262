"""What a distillation can be told: the section ``distillation``."""

from dataclasses import dataclass
from typing import Literal

from .declaration import Section, key, setting
from .generation import Form, usual_roll

Statistics = Literal["frozen", "update"]
Layers = Literal["auto", "all", "head", "affine"]
Teacher = Literal["auto", "own", "uniform", "prior-corrected", "class-weighted", "masked"]


@dataclass(frozen=True)
class DistillationSettings(Section, binds="distil"):
    """Distillation of the pseudo images into the global model; see ``docs/results.md``.

    BatchNorm layers whose scale and shift are not trained keep their statistics whatever
    ``statistics`` says. The library's :func:`distillation.distil`, whose student may be a fresh
    one, takes ``layers="auto"`` for all, is given soft labels, and does not read ``teacher``.
    """

    epochs: int = key(
        30, "Passes over all pseudo images.", unit="epochs", minimum=1, original="kd_epochs"
    )
    batch_size: int = key(64, "Pseudo images per step.", unit="images", minimum=1)
    learning_rate: float = key(0.01, "SGD's step size.", above=0.0, original="kd_lr")
    momentum: float = key(
        0.9, "Nesterov momentum.", minimum=0.0, maximum=0.999, original="momentum"
    )
    weight_decay: float = key(1e-4, "Weight decay.", minimum=0.0, original="weight_decay")
    temperature: float = key(3.0, "Temperature T of the soft labels.", symbol="T", above=0.0)
    weight: float = key(
        0.1, "Weight w of w·T²·KL (the reference uses 0.001).", symbol="w", above=0.0
    )
    max_shift: int | None = setting(
        None, "Largest roll of the images.", kind=int, unit="pixels", minimum=0
    )
    statistics: Statistics = key(
        "frozen",
        "What BatchNorm layers normalise with while distilling: the federated statistics, which "
        "stay (frozen), or the pseudo batch, which moves their running statistics (update).",
    )
    layers: Layers = key(
        "auto",
        "Which parameters of the global model are trained: all, the head alone, or the head and "
        "the scales and shifts of the normalisation layers (affine). auto: affine for images of "
        "16 pixels a side or more (post-training=fedf2dg), all elsewhere.",
    )
    teacher: Teacher = key(
        "auto",
        "Whose answer is the soft label of an image: the model it was made from (own: the paper), "
        "the mean of all local models (uniform), the same with their clients' label priors taken "
        "out (prior-corrected), weighted by who holds the image's class (class-weighted), or the "
        "own model over its client's classes and the global model elsewhere (masked). auto: "
        "prior-corrected for images of 16 pixels a side or more whose clients' label counts are "
        "known, own elsewhere.",
    )
    form: Form = key(
        "corrected",
        "The loop: corrected, or as the reference implementation writes it (an optimizer built "
        "anew for every epoch, which forgets its momentum; all images rolled once and together).",
    )

    def shift_for(self, height: int, width: int) -> int:
        """Largest roll in pixels for images of a size, as :func:`.usual_roll` has it."""
        return usual_roll(height, width) if self.max_shift is None else self.max_shift
