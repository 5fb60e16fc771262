"""The head, refitted on what clients or pseudo images tell of the features; the body stays.

Whatever the source, features of a class count as Gaussian. With one covariance for all classes the
best head is the linear discriminant, in closed form; with one for each class a head is trained on
virtual features.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from foundation.events.family import Calibrated
from foundation.models import State
from foundation.models.classifier import (
    LinearHead,
    head_name,
    logit_spread,
)
from foundation.seeds import CALIBRATION, derived_seed
from post_training.calibration.gaussians import Gaussians, gaussians_of
from post_training.method import NoAnswer, Settings
from post_training.pseudo_order import common_images
from post_training.trained import Trained
from questions.class_statistics import StatisticsRequest

# Virtual features: so many of a class at least and at most, and in between so many of all classes.
_FEWEST, _MOST, _TOGETHER = 100, 1000, 10_000


def refitted_head(trained: Trained, settings: Settings) -> State:
    """Return the global model with a new head; NoAnswer if the clients tell too little of it."""
    chosen = settings.calibration
    told = None
    if chosen.from_ != "pseudo":
        with trained.timed("calibrated"):
            request = StatisticsRequest(
                trained.global_state,
                means=True,
                moment=chosen.from_ in ("auto", "moments"),
                class_moments=chosen.from_ == "covariances",
            )
            told = trained.ask(request)
        if told is not None and told.feature_sums is None:
            told = None
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
    old = LinearHead.of(state, name)
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
            for each in (head, old.rows(known))
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
    return new.put_into(state, name)


# The weight of ½‖W‖²/C beside the mean cross-entropy, for features of unit mean square. It keeps
# the head finite where draws can be separated.
_DECAY = 1e-3
_ITERATIONS = 100


def discriminant_head(means: Tensor, covariance: Tensor, shares: Tensor) -> LinearHead:
    """Return w_c = Σ⁻¹μ_c, b_c = log π_c − ½·μ_cᵀΣ⁻¹μ_c (Fisher 1936; Hastie et al., section 4.3).

    The head that is right if features are Gaussian with means μ (C, d), one positive definite
    covariance Σ (d, d), and class shares π (C,) above 0: softmax of its logits is the probability
    of the classes.
    """
    weight = torch.linalg.solve(covariance.double(), means.double().T).T
    bias = shares.double().log() - 0.5 * (weight * means.double()).sum(1)
    return LinearHead(weight, bias)


def trained_head(features: Tensor, labels: Tensor, shares: Tensor) -> LinearHead:
    """Return the head with the least cross-entropy on features (n, d) and labels (n,).

    A convex problem, solved with no step size to choose. Every class weighs its share π_c, above 0,
    however many features there are of it, at least one.
    """
    counts = labels.bincount(minlength=len(shares)).double()
    priors = shares.double() / shares.double().sum()
    weights = (priors / counts)[labels].unsqueeze(1)
    center = (weights * features.double()).sum(dim=0)
    inputs = features.double() - center
    size = float((weights * inputs.square()).sum(dim=0).mean().sqrt().clamp_min(1e-12))
    inputs = inputs / size
    classes, width = len(shares), features.shape[1]
    targets = F.one_hot(labels, classes).double()

    def loss_and_gradient(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        head = torch.from_numpy(flat).reshape(classes, width + 1)
        weight, bias = head[:, :width], head[:, width]
        logs = F.log_softmax(inputs @ weight.T + bias, dim=1)
        loss = -(weights * targets * logs).sum() + 0.5 * _DECAY / classes * weight.square().sum()
        slope = weights * (logs.exp() - targets)
        by_weight = slope.T @ inputs + _DECAY / classes * weight
        gradient = torch.cat([by_weight, slope.sum(dim=0).unsqueeze(1)], dim=1)
        return float(loss), gradient.flatten().numpy()

    start = torch.cat([torch.zeros(classes, width).double(), priors.log().unsqueeze(1)], dim=1)
    found = minimize(
        loss_and_gradient,
        start.flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ITERATIONS, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-8},
    )
    head = torch.from_numpy(found.x).reshape(classes, width + 1)
    weight = head[:, :width] / size
    return LinearHead(weight, head[:, width] - weight @ center)


def virtual_features(
    means: Tensor, covariances: Tensor, per_class: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw Gaussian features of every class in place of those of images (CCVR, Luo et al. 2021).

    From means (C, d) and positive definite covariances, (C, d, d) or one (d, d) for all classes:
    features (C·per_class, d) float64 and their labels (C·per_class,) int64.
    """
    generator = torch.Generator().manual_seed(seed)
    classes, width = means.shape
    noise = torch.randn(classes, per_class, width, generator=generator, dtype=torch.float64)
    roots = torch.linalg.cholesky(covariances.double())
    features = means.double().unsqueeze(1) + noise @ roots.mT
    labels = torch.arange(classes).repeat_interleave(per_class)
    return features.reshape(-1, width), labels
