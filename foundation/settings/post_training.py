"""Keys of what comes after training: names of methods, and what may be told for them."""

from dataclasses import dataclass, field
from typing import Literal

from foundation.members import METHODS
from foundation.wording import names_in

from .calibration import CalibrationSettings
from .declaration import ConfigurationError, Section, key
from .distillation import DistillationSettings
from .generation import CompetitionSettings, GenerationSettings

#: The methods are chosen by the images.
AUTO = "auto"
#: Pixels a side from which images count as photographs. Inversion reaches smaller images, such as
#: digits of 8x8, nearly as good as real ones; what suits them does not suit photographs (docs/lab).
SMALLEST_PHOTOGRAPH = 16


@dataclass(frozen=True)
class PostTrainingKeys(Section):
    """What is done to the global model after training; part of the run's configuration."""

    post_training: str = key(
        AUTO,
        "What is done to the global model after training: one method, or several, one after the "
        "other, separated by commas (in fedf2dg compare, whose commas separate values, by plus "
        "signs). none: nothing; fedadi, dense, co_boosting and fedftg are peers of fedf2dg. auto: "
        "fedf2dg, and calibration behind it for images of 16 pixels a side or more whose clients' "
        "label counts are known.",
        binds="generate",
        words=(AUTO,),
        family=METHODS,
        several=True,
    )
    acceptance: Literal["clients", "none"] = key(
        "clients",
        "Who judges the result of every stage of post-training: clients (on their held-out images; "
        "a result that does not help is not kept, or only in part) or none (every result is kept).",
        binds="distil",
    )
    acceptance_metric: Literal["accuracy", "balanced-accuracy", "log-loss"] = key(
        "accuracy",
        "By which figure clients keep or refuse a stage's result and, with patience, a round's: "
        "accuracy; balanced-accuracy (the mean recall of the classes, for unequal ones; "
        "needs label-counts=uploaded); log-loss (what is sure and wrong costs most; clients also "
        "tell differences of losses).",
        binds="train",
    )
    baseline: Literal["none", "local"] = key(
        "none",
        "What the model that is kept is held against at the end. local: every site that holds "
        "images out trains a model alone, with the same settings and from the same weights, for as "
        "many rounds (without rounds: a head in closed form on its own features), and counts on "
        "these images what joining gained it; its model stays there. One message more.",
        binds="run",
    )
    personal: Literal["none", "batch-norm", "head"] = key(
        "none",
        "What of the model each site may have for itself, where that is better on the images that "
        "it holds out: batch-norm: BatchNorm's statistics and parameters, which do not leave it "
        "during the rounds (FedBN); head: a head in closed form on its own features, held by the "
        "global one.",
        binds="train",
    )
    label_counts: Literal["uploaded", "noised", "uniform"] = key(
        "uploaded",
        "What may be known of the clients' labels outside of them: their counts, counts with "
        "noise, or nothing (uniform).",
        binds="generate",
    )
    label_counts_noise: float = key(
        2.0,
        "Scale b of the Laplace noise on each label count (noised): ε = 1/b for one image.",
        unit="images",
        above=0.0,
        binds="generate",
    )
    class_statistics_minimum: int = key(
        5,
        "Fewest images of a class whose features a client adds up for the server: the mean of few "
        "is close to each of them.",
        unit="images",
        minimum=1,
        binds="generate",
    )
    class_statistics_noise: float = key(
        0.0,
        "Gaussian noise that a client adds to its sums of features.",
        unit="root mean square of a feature",
        minimum=0.0,
        binds="generate",
    )
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    competition: CompetitionSettings = field(default_factory=CompetitionSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)

    @property
    def label_counts_told(self) -> bool:
        """Whether the server may know how many images of each class the clients have."""
        return self.label_counts != "uniform" and self.generation.place == "server"

    @property
    def exact_counts_told(self) -> bool:
        """Whether clients answer by class, with exact numbers; otherwise in totals alone."""
        return self.label_counts == "uploaded" and self.label_counts_told

    def post_training_for(self, image_size: tuple[int, int]) -> str:
        """Return the names of the methods for images of (height, width) pixels."""
        return methods_for(self.post_training, image_size, self.label_counts_told)


def methods_for(text: str, image_size: tuple[int, int], label_counts_told: bool) -> str:
    """Return the names of the methods that a run's key means, for images of (height, width) pixels.

    auto means those that did best by measurement (docs/lab): distillation alone for tiny images,
    and for photographs the bias corrected behind it, unless the server may not know the clients'
    label counts: a bias could then only be fitted on pseudo images.
    """
    if text.strip() != AUTO:
        return text
    photographs = min(image_size) >= SMALLEST_PHOTOGRAPH
    return "fedf2dg,calibration" if photographs and label_counts_told else "fedf2dg"


def method_names(text: str) -> list[str]:
    """Return the different names of methods that the key names, in its order."""
    given = list(names_in(text))
    if not given or len(set(given)) < len(given) or ("none" in given and len(given) > 1):
        raise ConfigurationError(
            f"post-training = {text!r}: name none, or one or several different ones of "
            f"{', '.join(name for name in METHODS.names if name != 'none')}, separated by commas"
        )
    for name in given:
        METHODS.require(name)
    return given
