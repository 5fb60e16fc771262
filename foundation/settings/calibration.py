"""The sections ``calibration`` and ``head``: a corrected head, and one in closed form."""

from dataclasses import dataclass
from typing import Literal

from .declaration import ConfigurationError, Section, key

Part = Literal["bias", "head"]
Source = Literal["auto", "pseudo", "predictions", "means", "moments", "covariances"]
Covariance = Literal["pseudo", "spread"]
ClosedForm = Literal["auto", "discriminant", "ridge", "nearest-mean"]

#: What each part can be corrected from.
SOURCES: dict[Part, tuple[Source, ...]] = {
    "bias": ("auto", "pseudo", "predictions"),
    "head": ("auto", "pseudo", "means", "moments", "covariances"),
}
#: What clients answer with exact numbers of images of each class.
BY_CLASS: tuple[Source, ...] = ("means", "moments", "covariances")


@dataclass(frozen=True)
class CalibrationSettings(Section, binds="generate"):
    """Correcting the head of the global model after training."""

    of: Part = key(
        "bias",
        "What is corrected: the head's bias, one number per class, or the whole head.",
    )
    from_: Source = key(
        "auto",
        "What it is corrected from: pseudo images, for which nothing is sent; what the clients "
        "tell of the model's answers to their training images (the bias: predictions, the mean of "
        "its softmax; the head: means, its mean features of each class; moments, also their pooled "
        "second moment; covariances, a second moment of each class); or auto, predictions for the "
        "bias and moments for the head where clients can answer, and pseudo images otherwise.",
    )
    covariance: Covariance = key(
        "pseudo",
        "How features vary within a class, where calibration.from=means: like those of pseudo "
        "images, or as the spread of the clients' means shows.",
    )
    exchanges: int = key(
        1,
        "How often clients are asked for predictions; the second time refines the bias.",
        minimum=1,
        maximum=2,
    )
    penalty: float = key(
        0.1,
        "Shrinkage λ of a bias that is fitted on pseudo images, which can point the wrong way.",
        symbol="λ",
        minimum=0.0,
    )

    def __post_init__(self) -> None:
        """Refuse sources that say nothing of the part."""
        super().__post_init__()
        if self.from_ not in SOURCES[self.of]:
            raise ConfigurationError(
                f"calibration.from = {self.from_!r} does not tell what calibration.of = "
                f"{self.of!r} needs: choose one of {', '.join(SOURCES[self.of])}"
            )


@dataclass(frozen=True)
class HeadSettings(Section, name="head"):
    """A head in closed form, from one message of every client."""

    of: ClosedForm = key(
        "auto",
        "Which head: the linear discriminant, ridge regression on the classes, the nearest class "
        "mean; or auto, the discriminant unless the clients' held-out images tell for sure that "
        "another is better.",
        binds="generate",
    )
    balanced: bool = key(
        False,
        "Whether every class weighs the same, however many images the clients have of it.",
        binds="generate",
    )
