"""What methods with one ensemble share: the local models as its members, and a student."""

import torch
from torch import Tensor, nn

from distillation.student import Student
from foundation import ExpectedError
from foundation.errors import log
from foundation.events.family import EpochDone
from foundation.models import cpu_state, first_non_finite
from foundation.models.batch_norm import batch_norm_layers
from foundation.models.classifier import Ensemble
from foundation.settings.peers import StudentSettings
from generation import draw_labels

from .method import Settings
from .trained import Trained

#: The source of an image that no single client's model made.
ALL_CLIENTS = -1


class NoTeacher(ExpectedError, RuntimeError):
    """No local model can teach."""


def local_ensemble(trained: Trained) -> tuple[list[int], Ensemble]:
    """Return the clients whose local models are finite, and the mean of these models' logits."""
    clients, members = [], []
    for client, state in trained.local_models.items():
        if broken := first_non_finite(state):
            name = trained.names[client]
            log.warning("%s is left out of the ensemble: %s is not finite", name, broken)
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
    held = [float(any(column)) for column in zip(*counts, strict=True)]
    return draw_labels(images, held if any(held) else [1.0] * trained.inputs.classes, seed)


def student_of(
    trained: Trained, section: StudentSettings, *, steps: int, temperature: float
) -> Student:
    """Return a copy of the global model that learns as a method's own section says."""
    return Student(
        trained.model(trained.global_state),
        steps=steps,
        learning_rate=section.learning_rate,
        temperature=temperature,
        statistics=section.statistics,
    )


def note_progress(
    trained: Trained,
    name: str,
    student: Student,
    epoch: int,
    loss: float,
    objective: float | None = None,
) -> None:
    """Measure a student on its way, and say how far it has come."""
    accuracy = trained.evaluate(cpu_state(student.model), name)
    trained.record(EpochDone(epoch, loss, accuracy, stage=name, objective=objective))


def refuse(model: nn.Module, settings: Settings, name: str, weight: float, key: str) -> None:
    """Refuse settings that want images of single clients, and a model without BatchNorm.

    ValueError; the latter where its statistics are to be matched with a ``weight`` above 0, which
    ``key`` sets.
    """
    if settings.generation.place == "client":
        raise ValueError(
            f"post-training={name} makes images from all local models together, on the server: "
            "generation.place=client cannot be had with it"
        )
    if weight > 0 and not batch_norm_layers(model):
        raise ValueError(
            f"post-training={name} matches the statistics of BatchNorm layers, and this model has "
            f"none. Choose a model with BatchNorm, or set {key}=0 for poorer images"
        )
