"""F-ADI: DeepInversion against the ensemble of local models, then distillation.

DeepInversion (Yin et al. 2020) of one model, applied to the uniform mean of the local models'
logits: the baseline "F-ADI" of DENSE (Zhang et al. 2022) and Co-Boosting (Dai et al. 2024), who do
not say more of it. The distance to BatchNorm statistics is the mean over the local models.

Where this departs from the literature: the student is the federated model instead of a fresh one;
all images are made before it learns, so that the competition with it (``generation.
competition-weight``) sees the federated model only; steps and step sizes of the inversion are this
project's (``generation.*``); the last model counts, not the best on a test set.
"""

import time
from dataclasses import replace

import torch
from torch import nn

from distillation.student import pass_over
from foundation.events.family import ImagesMade
from foundation.models import cpu_state, device_of
from foundation.seeds import DISTILLATION, INVERSION, LABELS, derived_seed
from foundation.settings.peers import FedADISettings
from generation import InversionEngine, PseudoData

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

NAME = "fedadi"
# How often the student's progress is measured and written down.
_NOTES = 20


def run(trained: Trained, settings: Settings) -> None:
    """Invert the ensemble into images of all classes, and distil its answers to them."""
    carry_out(trained, "images", lambda: _invert(trained, settings), seconds=NAME)
    carry_out(trained, "distil", lambda: _distil(trained, settings), seconds=NAME)


def _suits(model: nn.Module, settings: Settings) -> None:
    refuse(model, settings, NAME, settings.generation.bn_weight, "generation.bn-weight")


method = Method("fedadi", run, suits=_suits)


def _invert(trained: Trained, settings: Settings) -> None:
    clients, ensemble = local_ensemble(trained)
    wanted, started = settings.section(FedADISettings), time.perf_counter()
    global_model = trained.model(trained.global_state)
    labels = balanced_labels(trained, wanted.images, derived_seed(settings.seed, LABELS))
    engine = InversionEngine(
        ensemble,
        trained.inputs.shape,
        replace(
            settings.generation,
            bn_weight=settings.generation.bn_weight / len(clients),
            # Not compiled: a graph of all members costs as many compilations as there are.
            compile="off",
        ),
        global_model=global_model,
        pixel_range=trained.inputs.pixel_range,
        device=device_of(global_model),
    )
    progress = trained.progress("inversion of the ensemble", "images")
    parts, objective = [], 0.0
    for number, batch in enumerate(labels.split(wanted.batch_size)):
        made = engine.invert(ensemble, batch, seed=derived_seed(settings.seed, INVERSION, number))
        sources = torch.full_like(made.labels, ALL_CLIENTS)
        parts.append(PseudoData(made.images, made.labels, sources, made.logits))
        objective += made.objective * len(batch) / len(labels)
        progress(sum(map(len, parts)), len(labels))
    trained.store["images"] = PseudoData.concatenate(parts)
    iterations, seconds = settings.generation.iterations, time.perf_counter() - started
    trained.record(ImagesMade(NAME, 0, 0, len(labels), iterations, objective, seconds))


def _distil(trained: Trained, settings: Settings) -> None:
    wanted, data = settings.section(FedADISettings), trained.store["images"]
    student = student_of(trained, wanted, steps=wanted.epochs, temperature=wanted.temperature)
    device = device_of(student.model)
    images, logits = data.images.to(device), data.logits.to(device)
    progress = trained.progress("distillation", "epochs")
    for epoch in range(1, wanted.epochs + 1):
        loss = pass_over(
            student,
            len(data),
            lambda rows, draw: (images[rows], logits[rows]),
            batch_size=wanted.batch_size,
            seed=derived_seed(settings.seed, DISTILLATION, epoch),
            device=device,
        )
        student.follow_schedule()
        if epoch % max(1, wanted.epochs // _NOTES) == 0 or epoch == wanted.epochs:
            note_progress(trained, NAME, student, epoch, loss)
        progress(epoch, wanted.epochs)
    trained.offer(NAME, cpu_state(student.model))
