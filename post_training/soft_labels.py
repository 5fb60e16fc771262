"""The soft labels of pseudo images: what the chosen teacher says of them."""

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from distillation import teachers
from foundation.events.family import TeacherTaken
from foundation.models import load_state
from foundation.models.evaluation import predicted_logits
from foundation.settings import ConfigurationError, Teacher
from foundation.settings.post_training import SMALLEST_PHOTOGRAPH
from generation import PseudoData

from .trained import Trained

log = logging.getLogger("flwr.fedf2dg")


def soft_labels(
    trained: Trained, data: PseudoData, teacher: Teacher, prior_left: float = 1.0
) -> Tensor:
    """Return the teacher's logits for every image, (n, classes), on the CPU.

    Teachers are those of :mod:`distillation.teachers`; all but own and uniform need every client's
    label counts (ConfigurationError). The prior-corrected ensemble takes as much of the priors out
    as the images' labels show to be there, bounded by ``prior_left`` (see
    :class:`.method.Settings`). auto: prior-corrected where these counts are known and the images
    have 16 pixels a side or more, own elsewhere.
    """
    # The ensemble knows less of a tiny image than the model it came from (86.1 against 93.0 % on
    # one seed of the digits); on photographs of 32x32 it is the other way round (docs/lab).
    tiny = min(data.images.shape[2:]) < SMALLEST_PHOTOGRAPH
    if len(data) == 0 or teacher == "own" or (teacher == "auto" and tiny):
        return data.logits
    clients = list(trained.local_models)
    counts = None if teacher == "uniform" else _counts(trained, clients)
    if counts is None and teacher == "auto":
        log.info("teacher: each image's own model, as not all label counts are known")
        return data.logits
    if counts is None and teacher != "uniform":
        raise ConfigurationError(
            f"distillation.teacher = {teacher!r} needs every client's label counts, which the "
            "server does not know (label-counts, generation.place): choose own or uniform"
        )
    answers = _answers(trained, clients, data.images)
    if counts is None:
        return teachers.uniform(answers)
    if teacher == "class-weighted":
        return teachers.class_weighted(answers, counts, data.labels)
    if teacher == "masked":
        known = predicted_logits(trained.model(trained.global_state), data.images)
        return teachers.masked(data.logits, counts, _rows(clients, data.sources), known)
    mean, prior = teachers.uniform(answers), teachers.mean_log_prior(counts)
    strength = teachers.fitted_strength(
        mean, prior, data.labels, prior_left * teachers.LARGEST_STRENGTH
    )
    trained.record(TeacherTaken(len(clients), strength))
    return mean - strength * prior.to(mean)


def _counts(trained: Trained, clients: Sequence[int]) -> Tensor | None:
    known = trained.label_counts()
    rows = [(known or {}).get(client) for client in clients]
    if not rows or any(row is None or sum(row) == 0 for row in rows):
        return None
    return torch.tensor(rows)


def _rows(clients: Sequence[int], sources: Tensor) -> Tensor:
    """Return the place among ``clients`` of every image's source."""
    place = {client: row for row, client in enumerate(clients)}
    return torch.tensor([place[source] for source in sources.tolist()])


def _answers(trained: Trained, clients: Sequence[int], images: Tensor) -> Iterator[Tensor]:
    """Yield every local model's logits for all images, one model in memory at a time."""
    shell = trained.model(trained.global_state)
    for client in clients:
        load_state(shell, trained.local_models[client])
        yield predicted_logits(shell, images)
