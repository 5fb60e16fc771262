"""Teachers: what the local models say together of an image that one of them made.

A local model knows the classes that its client holds and has forgotten the others, so its own
answer to an image of an absent class teaches forgetting. The rules below differ in how much they
trust each model with each class. All of them are pure functions of the models' logits.

Let z_k be the logits of local model k, π_k,c = n_k,c/n_k the share of class c among client k's
training images, q_k,c = n_k,c/Σ_j n_j,c the share of client k among the images of class c, and z
the logits of the global model.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Keeps the logarithm of an absent class's share finite; chosen in docs/lab.
PRIOR_FLOOR = 1e-3
# Probabilities are not exactly 0 in the logarithm that soft labels are kept as.
_SMALLEST = 1e-8


def own(logits: Tensor, sources: Tensor) -> Tensor:
    """Return what the model says that the image came from: FedF²DG (Zhao et al. 2024).

    Parameters
    ----------
    logits : Tensor
        (models, n, classes), z_k.
    sources : Tensor
        (n,) int64, the row in ``logits`` of the model that each image came from.

    Returns
    -------
    Tensor
        (n, classes) logits.
    """
    return logits[sources, torch.arange(len(sources), device=sources.device)]


def uniform(logits: Tensor) -> Tensor:
    """Return the mean of the models' logits: DENSE (Zhang et al. 2022), FedDF (Lin et al. 2020).

    Parameters
    ----------
    logits : Tensor
        (models, n, classes).

    Returns
    -------
    Tensor
        (n, classes) logits.
    """
    return logits.mean(dim=0)


def prior_corrected(logits: Tensor, counts: Tensor, strength: float = 1.0) -> Tensor:
    """Return the mean over the models of z_k - τ·log(π_k + ε).

    A model that was trained on its client's images predicts a posterior; taking the client's own
    prior out of it leaves the likelihood, which is what models of different clients can be averaged
    in (Menon et al. 2021, "Long-tail learning via logit adjustment", applied to the ensemble).

    Parameters
    ----------
    logits : Tensor
        (models, n, classes).
    counts : Tensor
        (models, classes), training images of each class; every row has a positive sum.
    strength : float (default: 1)
        τ. 0 is :func:`uniform`: right for models that were trained with a balanced loss, whose
        prior is corrected already.

    Returns
    -------
    Tensor
        (n, classes) logits.
    """
    if strength == 0.0:
        return uniform(logits)
    priors = counts.to(logits) / counts.to(logits).sum(dim=1, keepdim=True)
    return (logits - strength * (priors + PRIOR_FLOOR).log()[:, None, :]).mean(dim=0)


def class_weighted(logits: Tensor, counts: Tensor, labels: Tensor) -> Tensor:
    """Return log Σ_k q_k,y·softmax(z_k) for an image made for class y: FedFTG (Zhang et al. 2022).

    Parameters
    ----------
    logits : Tensor
        (models, n, classes).
    counts : Tensor
        (models, classes). Where no model's client holds a class, all models count the same.
    labels : Tensor
        (n,) int64, the class y that each image was made for.

    Returns
    -------
    Tensor
        (n, classes) logarithms of probabilities.
    """
    held = counts.to(logits)[:, labels]
    total = held.sum(dim=0, keepdim=True)
    weights = torch.where(total > 0, held / total.clamp_min(1.0), 1.0 / len(held))
    mixed = (weights[:, :, None] * logits.softmax(dim=2)).sum(dim=0)
    return mixed.clamp_min(_SMALLEST).log()


def masked(logits: Tensor, counts: Tensor, sources: Tensor, global_logits: Tensor) -> Tensor:
    """Return the own model's answer over the classes its client holds, the global one's elsewhere.

    The held classes keep together the probability that the global model gives them, and share it
    as the local model says; absent classes keep what the global model says. A local model can thus
    not teach the forgetting of what it never saw.

    Parameters
    ----------
    logits : Tensor
        (models, n, classes).
    counts : Tensor
        (models, classes); a class is held if its count is above 0.
    sources : Tensor
        (n,) int64, rows of ``logits``.
    global_logits : Tensor
        (n, classes), z.

    Returns
    -------
    Tensor
        (n, classes) logarithms of probabilities.
    """
    held = (counts > 0)[sources]
    mine = own(logits, sources).masked_fill(~held, -torch.inf).softmax(dim=1)
    everyone = global_logits.softmax(dim=1)
    mass = (everyone * held).sum(dim=1, keepdim=True)
    return torch.where(held, mine * mass, everyone).clamp_min(_SMALLEST).log()
