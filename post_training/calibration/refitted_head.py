"""The head, refitted on what clients or pseudo images tell of the features; the body stays.

Whatever the source, features of a class count as Gaussian. With one covariance for all classes the
best head is the linear discriminant, in closed form; with one for each class a head is trained on
virtual features.
"""

from foundation.events.family import Calibrated
from foundation.models import State
from foundation.models.classifier import (
    LinearHead,
    head_name,
    head_parameters,
    logit_spread,
    with_head,
)
from foundation.seeds import CALIBRATION, derived_seed
from questions.class_statistics import ClassStatistics, StatisticsRequest

from ..method import NoAnswer, Settings
from ..pseudo_order import common_images
from ..trained import Trained
from .gaussians import Gaussians, gaussians_of
from .linear_head import (
    discriminant_head,
    trained_head,
    virtual_features,
)

# Virtual features: so many of a class at least and at most, and in between so many of all classes.
_FEWEST, _MOST, _TOGETHER = 100, 1000, 10_000


def refitted_head(trained: Trained, settings: Settings) -> State:
    """Return the global model with a new head; NoAnswer if the clients tell too little of it."""
    chosen = settings.calibration
    told = None
    if chosen.from_ != "pseudo":
        with trained.timed("calibrated"):
            told = _told(trained, chosen.from_)
        if told is None and chosen.from_ != "auto":
            raise NoAnswer(
                f"calibration.from = {chosen.from_}: no client tells the features of its classes. "
                "Choose calibration.from=pseudo"
            )
    data = None
    if told is None or (chosen.from_ == "means" and chosen.covariance == "pseudo"):
        data = common_images(trained, settings)
    with trained.timed("calibrated"):
        try:
            gaussians = gaussians_of(trained, told, data)
        except ValueError as error:
            raise NoAnswer(
                f"calibration.from = {chosen.from_}: {error}. Choose calibration.of=bias, or "
                "another calibration.from"
            ) from error
        return _fitted(trained, gaussians, settings)


def _told(trained: Trained, source: str) -> ClassStatistics | None:
    told = trained.ask(
        StatisticsRequest(
            trained.global_state,
            means=True,
            moment=source in ("auto", "moments"),
            class_moments=source == "covariances",
        )
    )
    return None if told is None or told.feature_sums is None else told


def _fitted(trained: Trained, gaussians: Gaussians, settings: Settings) -> State:
    """Return the global model with the head that is best for the Gaussians.

    A discriminant is too sure, since features are not quite Gaussian, and those of pseudo images
    vary less than real ones. It gets a temperature that makes it as sure as the old head. The order
    of the classes does not change by that.
    """
    state = trained.global_state
    known = gaussians.shares > 0
    if int(known.sum()) < 2:
        raise NoAnswer("calibration of the head: features of two classes or more are needed")
    name = head_name(trained.model(state))
    old = LinearHead(*head_parameters(state, name))
    shares = gaussians.shares[known] / gaussians.shares.sum()
    means = gaussians.means[known]
    temperature = 1.0
    if gaussians.covariance.ndim == 3:
        per_class = max(_FEWEST, min(_MOST, _TOGETHER // len(means)))
        seed = derived_seed(settings.seed, CALIBRATION, 1)
        head = trained_head(
            *virtual_features(means, gaussians.covariance[known], per_class, seed), shares
        )
    else:
        head = discriminant_head(means, gaussians.covariance, shares)
        spreads = [
            logit_spread(each, means, gaussians.covariance, shares)
            for each in (head, LinearHead(old.weight[known], old.bias[known]))
        ]
        temperature = spreads[0] / spreads[1] if spreads[1] > 0 else 1.0
    new = head.scaled(1 / temperature).within(old, known)
    trained.record(
        Calibrated(
            "head",
            settings.calibration.from_,
            classes=len(means),
            shrinkage=gaussians.shrinkage,
            temperature=temperature,
        )
    )
    return with_head(state, name, new.weight, new.bias)
