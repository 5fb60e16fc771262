"""A generator that adds a batch of images for each epoch, and a student that passes over them all.

The loop of DENSE (Zhang et al. 2022), which Co-Boosting (Dai et al. 2024) changes in three places.
Let z_k(x) be the logits of local model k, and w_k its weight in the ensemble.

Every batch of images is a step of its own. A run that was killed finds the images that it had
made, and repeats the passes over them alone, which is what takes little time; the result is that of
a run that was not killed.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from distillation.student import Student, pass_over
from foundation.models import cpu_state, device_of
from foundation.models.ensemble import Ensemble
from foundation.models.predictions import predicted_logits
from foundation.seeds import DISTILLATION, INVERSION, LABELS, derived_seed
from foundation.settings.peers import GrowingPoolSettings
from generation import PseudoData
from generation.synthesis import Synthesis, Terms

from .local_ensemble import ALL_CLIENTS, balanced_labels, local_ensemble
from .steps import carry_out
from .trained import Trained


class Pool:
    """All images made so far, on the device, with every member's answers to them.

    Attributes
    ----------
    images : Tensor
        (n, C, H, W) float32.
    labels : Tensor
        (n,) int64, the classes that they were made for.
    answers : Tensor
        (n, K, classes) float32, z_k.
    """

    def __init__(self, images: Tensor, labels: Tensor, answers: Tensor) -> None:
        self.images, self.labels, self.answers = images, labels, answers

    def __len__(self) -> int:
        """Return n."""
        return len(self.labels)

    def with_more(self, other: Pool) -> Pool:
        """Return a pool of the images of both."""
        return Pool(
            torch.cat([self.images, other.images]),
            torch.cat([self.labels, other.labels]),
            torch.cat([self.answers, other.answers]),
        )


class Teaching(Protocol):
    """What the methods of this loop differ in."""

    @property
    def name(self) -> str:
        """The method's name, also that of its stage."""
        ...

    @property
    def terms(self) -> Terms:
        """What the generator is trained for."""
        ...

    @property
    def temperature(self) -> float:
        """T of the soft labels."""
        ...

    def weights(self, now: Tensor, pool: Pool, epoch: int) -> Tensor:
        """Return the members' weights (K,) for an epoch, counted from 1, from those before it."""
        ...

    def lesson(
        self, ensemble: Ensemble, images: Tensor, answers: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return what the student sees of a batch, and the logits that it is to learn."""
        ...


def distil_growing_pool(
    trained: Trained, teaching: Teaching, settings: GrowingPoolSettings, seed: int
) -> None:
    """Carry out all epochs, and offer the last model as the stage of the method's name.

    Parameters
    ----------
    trained : Trained
        The federation.
    teaching : Teaching
        The method.
    settings : GrowingPoolSettings
        Its section.
    seed : int
        Source of all randomness.
    """
    if trained.done("distil"):
        return
    _, ensemble = local_ensemble(trained)
    global_model = trained.model(trained.global_state)
    device = device_of(global_model)
    student = Student(
        global_model,
        steps=settings.epochs,
        learning_rate=settings.learning_rate,
        temperature=teaching.temperature,
        statistics=settings.statistics,
    )
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
    progress = trained.progress(teaching.name, "epochs")
    pool: Pool | None = None

    def make(epoch: int) -> None:
        started = time.perf_counter()
        labels = balanced_labels(trained, settings.batch_size, derived_seed(seed, LABELS, epoch))
        made = synthesis.make(
            student.model,
            labels,
            seed=derived_seed(seed, INVERSION, epoch),
            weights=ensemble.weights,
        )
        trained.store[f"images-{epoch:04d}"] = PseudoData(
            made.images,
            labels,
            torch.full_like(labels, ALL_CLIENTS),
            predicted_logits(ensemble, made.images),
        )
        trained.note(
            "generation",
            kind=teaching.name,
            competition_round=0,
            batch=epoch - 1,
            images=len(labels),
            iterations=settings.steps,
            objective=made.objective,
            seconds=time.perf_counter() - started,
        )

    for epoch in range(1, settings.epochs + 1):
        carry_out(
            trained,
            f"images-{epoch:04d}",
            lambda epoch=epoch: make(epoch),  # type: ignore[misc]
            seconds=teaching.name,
        )
        with trained.timed(teaching.name):
            batch = _answered(ensemble, trained.store[f"images-{epoch:04d}"], device)
            pool = batch if pool is None else pool.with_more(batch)
            ensemble.weights.copy_(teaching.weights(ensemble.weights, pool, epoch))
            loss = pass_over(
                student,
                len(pool),
                partial(_lesson, teaching, ensemble, pool),
                batch_size=settings.batch_size,
                seed=derived_seed(seed, DISTILLATION, epoch),
                device=device,
            )
            student.follow_schedule()
        accuracy = trained.evaluate(cpu_state(student.model), teaching.name)
        trained.note("distillation", stage=teaching.name, epoch=epoch, loss=loss, accuracy=accuracy)
        progress(epoch, settings.epochs)
    carry_out(
        trained,
        "distil",
        lambda: trained.offer(teaching.name, cpu_state(student.model)),
        seconds=teaching.name,
    )


@torch.no_grad()
def _answered(ensemble: Ensemble, data: PseudoData, device: torch.device) -> Pool:
    images = data.images.to(device).contiguous(memory_format=torch.channels_last)
    return Pool(images, data.labels.to(device), ensemble.answers(images))


def _lesson(
    teaching: Teaching, ensemble: Ensemble, pool: Pool, rows: Tensor, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    return teaching.lesson(ensemble, pool.images[rows], pool.answers[rows], draw)
