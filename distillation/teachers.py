"""Teachers: what the local models say together of an image that one of them made.

A local model knows the classes that its client holds and has forgotten the others, so its own
answer to an image of an absent class teaches forgetting. The rules below differ in how much they
trust each model with each class. All of them are pure functions of the models' logits,
which are read one model at a time: a generator serves as well as a tensor, and a thousand models
need no more memory than one.

Let z_k be the logits of local model k, π_k,c = n_k,c/n_k the share of class c among client k's
training images, q_k,c = n_k,c/Σ_j n_j,c the share of client k among the images of class c, and z
the logits of the global model.

Everywhere, ``logits`` are z_k, (n, classes) each, of one model or more; ``counts``, (models,
classes), are n_k,c; ``labels``, (n,) int64, are the classes that images were made for, and
``sources``, (n,) int64, the places of the models that they came from. Answers are (n, classes):
logits, or logarithms of probabilities.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

#: Keeps the logarithm of an absent class's share finite; chosen in docs/lab.
PRIOR_FLOOR = 1e-3
# Probabilities are not exactly 0 in the logarithm that soft labels are kept as.
_SMALLEST = 1e-8
#: Beyond it, the correction would be more than a prior can explain.
LARGEST_STRENGTH = 1.5
# 1.5 / 2**30 is far below what changes a prediction.
_HALVINGS = 30


def own(logits: Iterable[Tensor], sources: Tensor) -> Tensor:
    """Return what the model says that the image came from: FedF²DG (Zhao et al. 2024)."""
    answer = None
    for model, values in enumerate(logits):
        answer = torch.zeros_like(values) if answer is None else answer
        answer = torch.where((sources == model)[:, None], values, answer)
    return _at_least_one(answer)


def uniform(logits: Iterable[Tensor]) -> Tensor:
    """Return the mean of the models' logits: DENSE (Zhang et al. 2022), FedDF (Lin et al. 2020)."""
    total, models = None, 0
    for values in logits:
        total = values.clone() if total is None else total.add_(values)
        models += 1
    return _at_least_one(total) / models


def mean_log_prior(counts: Tensor) -> Tensor:
    """Return the mean over the models of log(π_k + ε), (classes,); each model has seen images."""
    priors = counts.double() / counts.double().sum(dim=1, keepdim=True)
    return (priors + PRIOR_FLOOR).log().mean(dim=0)


def prior_corrected(logits: Iterable[Tensor], counts: Tensor, strength: float = 1.0) -> Tensor:
    """Return the mean over the models of z_k - τ·log(π_k + ε), with τ the strength.

    A model that was trained on its client's images predicts a posterior; taking the client's own
    prior out of it leaves the likelihood, which is what models of different clients can be averaged
    in (Menon et al. 2021, "Long-tail learning via logit adjustment", applied to the ensemble).
    Every row of `counts` has a positive sum. See :func:`fitted_strength`.
    """
    mean = uniform(logits)
    return mean - strength * mean_log_prior(counts).to(mean)


def fitted_strength(
    mean_logits: Tensor, log_prior: Tensor, labels: Tensor, largest: float = LARGEST_STRENGTH
) -> float:
    """Return the τ in [0, largest] whose corrected ensemble fits the labels of pseudo images best.

    Models that were trained with a balanced loss hold no prior that could be taken out, and a
    second correction harms them. The images tell: the cross-entropy of ``mean_logits -
    τ·log_prior`` (see :func:`uniform`, :func:`mean_log_prior`) with their labels is convex in τ.
    Where training is known to have taken priors out, 0 as the `largest` leaves the ensemble alone.
    """
    logits, direction = mean_logits.double(), log_prior.to(mean_logits.device).double()
    low, high = 0.0, largest
    # The derivative of a convex function changes its sign once: halve the interval around it.
    for _ in range(_HALVINGS):
        strength = (low + high) / 2
        probabilities = F.softmax(logits - strength * direction, dim=1)
        slope = (direction[labels] - probabilities @ direction).mean()
        low, high = (low, strength) if slope > 0 else (strength, high)
    return (low + high) / 2


def client_shares(counts: Tensor, labels: Tensor) -> Tensor:
    """Return q_k,y, (models, n) float32: the share of client k among the images of each label y.

    Columns sum to 1: where no model's client holds a class, all count the same.
    """
    held = counts[:, labels].float()
    total = held.sum(dim=0)
    return torch.where(total > 0, held / total.clamp_min(1.0), 1.0 / len(held))


def class_weighted(logits: Iterable[Tensor], counts: Tensor, labels: Tensor) -> Tensor:
    """Return log Σ_k q_k,y·softmax(z_k) for an image made for class y: FedFTG (Zhang et al. 2022).

    For q, see :func:`client_shares`.
    """
    mixed = None
    for values, weight in zip(logits, client_shares(counts, labels), strict=True):
        part = weight.to(values)[:, None] * values.softmax(dim=1)
        mixed = part if mixed is None else mixed.add_(part)
    return _at_least_one(mixed).clamp_min(_SMALLEST).log()


def masked(own_logits: Tensor, counts: Tensor, sources: Tensor, global_logits: Tensor) -> Tensor:
    """Return the own model's answer over the classes its client holds, the global one's elsewhere.

    The held classes keep together the probability that the global model gives them, and share it as
    the local model says (its logits are :func:`own`): it cannot teach the forgetting of what it
    never saw.
    """
    held = (counts > 0)[sources]
    mine = own_logits.masked_fill(~held, -torch.inf).softmax(dim=1)
    everyone = global_logits.softmax(dim=1)
    mass = (everyone * held).sum(dim=1, keepdim=True)
    return torch.where(held, mine * mass, everyone).clamp_min(_SMALLEST).log()


def _at_least_one(combined: Tensor | None) -> Tensor:
    if combined is None:
        raise ValueError("no model to learn from")
    return combined
