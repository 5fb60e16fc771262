"""What a distillation can be told."""

from dataclasses import dataclass
from typing import Literal

Form = Literal["corrected", "reference"]
Statistics = Literal["update", "frozen"]


@dataclass(frozen=True)
class DistillationSettings:
    """Settings of one distillation.

    How the weight, the statistics and the shift were chosen is in ``docs/results.md``.

    Parameters
    ----------
    epochs : int (default: 30)
        Passes over the pseudo data.
    learning_rate, momentum, nesterov, weight_decay : (default: 0.01, 0.9, True, 1e-4)
        Of SGD.
    temperature : float (default: 3)
        T: divides teacher's and student's logits before the softmax.
    weight : float (default: 0.1)
        w: factor on the loss.
    batch_size : int (default: 256)
        Images per step.
    max_shift : int or None (default: None)
        Every batch is rolled by up to so many pixels each way. None: one pixel per 16 of the
        image's size, at most 2, hence none for 8x8 images.
    statistics : {"update", "frozen"} (default: "update")
        What BatchNorm layers of the student do: normalise with the pseudo batch and let its
        statistics move those they remember, or keep the federated ones. Averages of statistics
        whose means differ are too narrow; the further the clients are apart, the more it matters.
    form : {"corrected", "reference"} (default: "corrected")
        corrected: one optimizer, a new shift for every batch. reference: the optimizer is built
        anew for every epoch (which forgets its momentum), and the whole set is rolled once.
    """

    epochs: int = 30
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    temperature: float = 3.0
    weight: float = 0.1
    batch_size: int = 256
    max_shift: int | None = None
    statistics: Statistics = "update"
    form: Form = "corrected"

    def __post_init__(self) -> None:
        """Refuse values no distillation can run with."""
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        _require(
            self.momentum > 0 or not self.nesterov, "nesterov", True, "False where momentum is 0"
        )
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(self.temperature > 0, "temperature", self.temperature, "above 0")
        _require(self.weight > 0, "weight", self.weight, "above 0")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(
            self.max_shift is None or self.max_shift >= 0,
            "max_shift",
            self.max_shift,
            "None or 0 or more",
        )
        _require(
            self.statistics in ("update", "frozen"),
            "statistics",
            self.statistics,
            "one of update, frozen",
        )
        _require(
            self.form in ("corrected", "reference"),
            "form",
            self.form,
            "one of corrected, reference",
        )

    def shift_for(self, height: int, width: int) -> int:
        """Largest roll in pixels for images of a size: one per 16 pixels, at most 2."""
        if self.max_shift is not None:
            return self.max_shift
        return min(2, min(height, width) // 16)


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {value!r}: must be {wanted}")
