"""DENSE (Zhang et al. 2022): a generator against the uniform ensemble, and a growing pool.

For each epoch a new generator is trained on

    CE(z(x), y) + λ1·(distance to the BatchNorm statistics of the local models, their mean)
                − λ2·KL(z(x) || s(x)) where ensemble z and student s predict different classes

and its images join the pool, over which the student then learns KL(z || s) at T = 20.

Every batch of images is a step of its own. A run that was killed finds the images that it had
made, and repeats the passes over them alone, which is what takes little time; the result is that of
a run that was not killed.

Where this departs from the paper: the student is the federated model, in training mode; its step
size falls along a cosine, because the last model counts and not the best on a test set; a batch has
as many images of every class that a client holds, not classes drawn at random; sizes are for two
cores (``dense.epochs`` 20 for 200, batches of 64 for 256, a generator of half the width); the
images are those after the last step, not those of the least loss; the program's crops and flips of
the images that the ensemble sees are left out.
"""

import time
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distillation.student import pass_over
from foundation.events.family import ImagesMade
from foundation.models import cpu_state, device_of
from foundation.models.classifier import Ensemble
from foundation.models.evaluation import predicted_logits
from foundation.seeds import DISTILLATION, INVERSION, LABELS, derived_seed
from foundation.settings.peers import CoBoostingSettings, DenseSettings
from generation import PseudoData
from generation.generator import Synthesis, Terms

from .local_ensemble import (
    ALL_CLIENTS,
    balanced_labels,
    local_ensemble,
    note_progress,
    refuse,
    student_of,
)
from .method import Method, Settings, carry_out
from .trained import Trained


class Pool(NamedTuple):
    """All images made so far, on the device, with the answers z_k of every member to them.

    ``images`` (n, C, H, W) float32 were made for the classes ``labels`` (n,) int64; ``answers`` are
    (n, K, classes) float32.
    """

    images: Tensor
    labels: Tensor
    answers: Tensor


class Dense:
    """Every member weighs the same, and the student sees the images as they are."""

    name = "dense"

    def __init__(self, settings: DenseSettings | CoBoostingSettings) -> None:
        self.settings = settings

    @property
    def terms(self) -> Terms:
        """What the generator is trained for."""
        return Terms(
            bn_weight=self.settings.bn_weight,
            disagreement_weight=self.settings.disagreement_weight,
            only_where_wrong=True,
        )

    def weights(self, now: Tensor, pool: Pool, epoch: int) -> Tensor:
        """Return the members' weights (K,) for an epoch, counted from 1, from those before it."""
        return now

    def lesson(
        self, ensemble: Ensemble, pool: Pool, rows: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return what the student sees of a batch, and the logits that it is to learn."""
        return pool.images[rows], ensemble.combined(pool.answers[rows])


def distil_growing_pool(trained: Trained, teaching: Dense, seed: int) -> None:
    """Carry out all epochs, and offer the last model as the stage of the method's name."""
    if trained.done("distil"):
        return
    name, settings = teaching.name, teaching.settings
    _, ensemble = local_ensemble(trained)
    student = student_of(trained, settings, steps=settings.epochs, temperature=settings.temperature)
    device = device_of(student.model)
    synthesis = Synthesis(
        ensemble,
        teaching.terms,
        shape=trained.inputs.shape,
        pixel_range=trained.inputs.pixel_range,
        steps=settings.steps,
        learning_rate=settings.generator_learning_rate,
        width=settings.width,
        device=device,
    )
    progress = trained.progress(name, "epochs")
    pool: Pool | None = None

    def make(step: str, epoch: int) -> None:
        started = time.perf_counter()
        labels = balanced_labels(trained, settings.batch_size, derived_seed(seed, LABELS, epoch))
        images, objective = synthesis.make(
            student.model,
            labels,
            seed=derived_seed(seed, INVERSION, epoch),
            weights=ensemble.weights,
        )
        sources = torch.full_like(labels, ALL_CLIENTS)
        logits = predicted_logits(ensemble, images)
        trained.store[step] = PseudoData(images, labels, sources, logits)
        batch, seconds = epoch - 1, time.perf_counter() - started
        trained.record(ImagesMade(name, 0, batch, len(labels), settings.steps, objective, seconds))

    for epoch in range(1, settings.epochs + 1):
        step = f"images-{epoch:04d}"
        carry_out(trained, step, partial(make, step, epoch), seconds=name)
        with trained.timed(name):
            batch = _answered(ensemble, trained.store[step], device)
            pool = batch if pool is None else Pool(*map(torch.cat, zip(pool, batch, strict=True)))
            ensemble.weights.copy_(teaching.weights(ensemble.weights, pool, epoch))
            loss = pass_over(
                student,
                len(pool.labels),
                partial(teaching.lesson, ensemble, pool),
                batch_size=settings.batch_size,
                seed=derived_seed(seed, DISTILLATION, epoch),
                device=device,
            )
            student.follow_schedule()
        note_progress(trained, name, student, epoch, loss)
        progress(epoch, settings.epochs)
    carry_out(
        trained, "distil", lambda: trained.offer(name, cpu_state(student.model)), seconds=name
    )


@torch.no_grad()
def _answered(ensemble: Ensemble, data: PseudoData, device: torch.device) -> Pool:
    images = data.images.to(device).contiguous(memory_format=torch.channels_last)
    return Pool(images, data.labels.to(device), ensemble.answers(images))


def run(trained: Trained, settings: Settings) -> None:
    """Grow the pool and distil it."""
    distil_growing_pool(trained, Dense(settings.section(DenseSettings)), settings.seed)


def _suits(model: nn.Module, settings: Settings) -> None:
    refuse(model, settings, "dense", settings.section(DenseSettings).bn_weight, "dense.bn-weight")


method = Method("dense", run, suits=_suits)
