"""The local models as one teacher, and the classes that it can be asked for."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from foundation import ExpectedError
from foundation.models import first_non_finite
from foundation.models.batch_norm import batch_norm_layers
from foundation.models.classifier import Ensemble
from generation import draw_labels

from .settings import Settings
from .trained import Trained

log = logging.getLogger("flwr.fedf2dg")

#: The source of an image that no single client's model made.
ALL_CLIENTS = -1


class NoTeacher(ExpectedError, RuntimeError):
    """No local model can teach."""


def local_ensemble(trained: Trained) -> tuple[list[int], Ensemble]:
    """Return the clients whose local models are finite, and the mean of these models' logits."""
    clients, members = [], []
    for client, state in trained.local_models.items():
        if broken := first_non_finite(state):
            log.warning("client %d is left out of the ensemble: %s is not finite", client, broken)
            continue
        clients.append(client)
        members.append(trained.model(state))
    if not members:
        raise NoTeacher("no client's local model is finite: there is nothing to learn from")
    return clients, Ensemble(members).to(memory_format=torch.channels_last)


def balanced_labels(trained: Trained, images: int, seed: int) -> Tensor:
    """Return as many labels of each class, (images,) int64 in random order.

    A class that no client holds, as far as they tell, is left out: no local model knows it.
    """
    counts = (trained.label_counts() or {}).values()
    held = [sum(column) for column in zip(*counts, strict=True)]
    if not any(held):
        held = [1] * trained.inputs.classes
    return draw_labels(images, [1.0 if images_of_class else 0.0 for images_of_class in held], seed)


def refuse_without_statistics(model: nn.Module, name: str, weight: float, key: str) -> None:
    """Refuse a model without BatchNorm where its statistics are to be matched (ValueError)."""
    if weight > 0 and not batch_norm_layers(model):
        raise ValueError(
            f"post-training={name} matches the statistics of BatchNorm layers, and this model has "
            f"none. Choose a model with BatchNorm, or set {key}=0 for poorer images"
        )


def refuse_on_clients(settings: Settings, name: str) -> None:
    """Refuse settings that want images made on the clients, who know one model (ValueError)."""
    if settings.generation.place == "client":
        raise ValueError(
            f"post-training={name} makes images from all local models together, on the server: "
            "generation.place=client cannot be had with it"
        )
