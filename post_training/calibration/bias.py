"""The bias of the head: C numbers that repair most of what averaging does to a classifier.

C is the number of classes, z(x) are the logits of the model that is calibrated, and b what is added
to its head's bias. A class of which there are no images keeps its bias: nothing is known of it.
"""

import torch
from torch import Tensor

from foundation.events.family import Calibrated
from foundation.models import State
from foundation.models.classifier import add_to_bias, head_name
from foundation.models.evaluation import predicted_logits
from questions.class_statistics import StatisticsRequest

from ..method import NoAnswer, Settings
from ..pseudo_order import common_images
from ..trained import Trained

# A class that the model never predicts would ask for an infinite bias.
_SMALLEST_PREDICTION = 1e-8
_NEWTON_STEPS = 100
_HALVINGS = 40
_TOLERANCE = 1e-10


def calibrated_bias(trained: Trained, settings: Settings) -> tuple[State, bool]:
    """Return the global model with a corrected bias, and whether clients' predictions gave it."""
    source = settings.calibration.from_
    if source != "pseudo":
        with trained.timed("calibrated"):
            state = _from_predictions(trained, settings)
        if state is not None:
            return state, True
    if source == "predictions":
        raise NoAnswer(
            "calibration.from = predictions: no client tells the mean of its predictions and its "
            "label counts. Set label-counts=uploaded, or calibration.from=pseudo"
        )
    return _from_common_images(trained, settings), False


def _from_predictions(trained: Trained, settings: Settings) -> State | None:
    """Return the corrected state; None if no client tells its predictions and label counts."""
    state = trained.global_state
    for exchange in range(settings.calibration.exchanges):
        told = trained.ask(StatisticsRequest(state, predictions=True))
        if told is None or told.predictions is None or told.label_counts is None:
            return None
        bias = bias_from_predictions(told.label_counts, told.predictions)
        state = _corrected(trained, state, bias)
        clients, changes = len(told.clients), bias.tolist()
        trained.record(
            Calibrated("bias", "predictions", exchange + 1, clients, told.images, changes)
        )
    return state


def _from_common_images(trained: Trained, settings: Settings) -> State:
    """Return the state whose bias fits the labels that pseudo images were made for."""
    data = common_images(trained, settings)
    with trained.timed("calibrated"):
        logits = predicted_logits(trained.model(trained.global_state), data.images)
        bias = bias_from_images(logits, data.labels, settings.calibration.penalty)
        trained.record(Calibrated("bias", "pseudo", images=len(data), bias=bias.tolist()))
        return _corrected(trained, trained.global_state, bias)


def _corrected(trained: Trained, state: State, bias: Tensor) -> State:
    return add_to_bias(state, head_name(trained.model(state)), bias)


def bias_from_predictions(label_counts: Tensor, predictions: Tensor) -> Tensor:
    """Return b_c = log(n_c/n) − log(m_c): what makes mean predictions move to the label shares.

    The EM step of Saerens et al. (2002) turned round: there the shares are unknown and the
    predictions right, here the shares n_c/n are known and the mean prediction m_c is corrected. At
    the fixed point, b = 0, the two agree; repeated, with the predictions of the model that has the
    bias, it goes there.

    n_c (C,) are images of each class over all clients, and ``predictions`` (C,) Σ softmax(z(x))
    over the same images. Classes without images get 0 and are left out of both shares.
    """
    counts, sums = label_counts.double(), predictions.double()
    present = counts > 0
    bias = torch.zeros_like(counts)
    if int(present.sum()) < 2:
        return bias
    shares = counts[present] / counts.sum()
    means = (sums[present] / sums[present].sum()).clamp_min(_SMALLEST_PREDICTION)
    bias[present] = shares.log() - means.log()
    return bias


def bias_from_images(logits: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """Return the b that minimises CE(z + b, t) + λ·‖b‖²/C over images made for the classes t.

    Every class weighs the same however many images there are of it, so labels count as balanced.
    Convex in C unknowns; solved by Newton's method in float64.

    z are ``logits`` (n, C), t ``labels`` (n,), λ ``penalty``, 0 or more; divided by C because the
    curvature of the cross-entropy falls like 1/C: the same λ shrinks as much for 2 classes as for
    200. b (C,) is float64 with mean 0 over the classes that have images; the others get 0 and are
    left out of the cross-entropy.
    """
    counts = labels.bincount(minlength=logits.shape[1])
    present = counts > 0
    bias = torch.zeros(logits.shape[1], dtype=torch.float64)
    classes = int(present.sum())
    if classes < 2:
        return bias
    known = logits.double()[:, present]
    position = present.cumsum(0) - 1
    targets = torch.nn.functional.one_hot(position[labels], classes).double()
    weights = (1.0 / (classes * counts[labels].double())).unsqueeze(1)
    strength = penalty / classes

    def objective(b: Tensor) -> Tensor:
        losses = -((known + b).log_softmax(1) * targets).sum(1, keepdim=True)
        return (weights * losses).sum() + strength * b.square().sum()

    b = torch.zeros(classes, dtype=torch.float64)
    for _ in range(_NEWTON_STEPS):
        probabilities = (known + b).softmax(1)
        gradient = (weights * (probabilities - targets)).sum(0) + 2 * strength * b
        if float(gradient.abs().max()) < _TOLERANCE:
            break
        curvature = ((weights * probabilities).sum(0)).diag()
        curvature -= (weights * probabilities).T @ probabilities
        # Adding a constant to b changes nothing but the penalty: its direction is given a curvature
        # of 1, and no gradient pulls that way.
        curvature += 2 * strength * torch.eye(classes).double() + 1.0 / classes
        step = torch.linalg.solve(curvature, gradient)
        now, length = objective(b), 1.0
        for _ in range(_HALVINGS):
            if objective(b - length * step) <= now:
                break
            length /= 2
        b = b - length * step
        b = b - b.mean()
    bias[present] = b
    return bias
