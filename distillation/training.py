"""Training the global model on pseudo data with the soft labels of the models it came from."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foundation.settings import DistillationSettings, Layers

from .layers import trained_parameters
from .loss import DistillationError, distillation_loss

Progress = Callable[[int, int], None]
"""Called with (images done, images in all), an image counting once per epoch."""

AfterEpoch = Callable[[int, nn.Module, float], None]
"""Called with (epoch from 1 on, student in evaluation mode, mean loss of the epoch)."""


@dataclass(frozen=True)
class Distillation:
    """Result of a distillation.

    Parameters
    ----------
    model : nn.Module
        The student after its last epoch, in evaluation mode, on the CPU.
    losses : list of float
        Mean loss of each epoch.
    """

    model: nn.Module
    losses: list[float]


def distil(
    student: nn.Module,
    images: Tensor,
    logits: Tensor,
    settings: DistillationSettings | None = None,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    after_epoch: AfterEpoch | None = None,
) -> Distillation:
    """Distil soft labels into a copy of the student.

    The data stay on the device for the whole training and nothing is read back but the loss of each
    epoch. Which model is kept is not chosen here: the last one is returned.

    Parameters
    ----------
    student : nn.Module
        The global model; copied, never changed.
    images : Tensor
        (n, C, H, W) float32, normalised.
    logits : Tensor
        (n, classes) float32, the teacher's answer to each image.
    settings : DistillationSettings or None (default: None)
        None: the defaults.
    seed : int
        Order and shifts of the images depend on this alone.
    device : str or torch.device (default: "cpu")
        Where to compute.
    progress : callable or None (default: None)
        Called after every step with (images done, images in all): images times epochs.
    after_epoch : callable or None (default: None)
        Called after every epoch with (epoch, model in evaluation mode, mean loss): the place to
        evaluate.

    Returns
    -------
    Distillation
        The trained copy and the loss of each epoch.

    Raises
    ------
    DistillationError
        If the loss stops being a finite number.
    """
    settings = settings or DistillationSettings()
    if len(images) != len(logits):
        raise ValueError(f"{len(images)} images, but soft labels for {len(logits)}")
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(student).to(device).to(memory_format=torch.channels_last)
    if len(images) == 0:
        return Distillation(model=model.eval().cpu(), losses=[])
    layers = settings.layers
    parameters = trained_parameters(model, layers)
    images = images.to(device=device, memory_format=torch.channels_last)
    logits = logits.to(device)
    limit = settings.shift_for(*images.shape[2:])
    if settings.form == "reference":
        images = torch.roll(images, _draw_shift(limit, generator), dims=(2, 3))
    required = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = _optimizer(parameters, settings)
    # Batches of nearly equal size, none of a single image: BatchNorm cannot train on one.
    steps = max(1, min(math.ceil(len(images) / settings.batch_size), len(images) // 2))
    frozen = settings.statistics == "frozen" or len(images) == 1
    losses: list[float] = []
    done = 0
    for epoch in range(1, settings.epochs + 1):
        _set_training_mode(model, frozen, layers)
        if settings.form == "reference":
            optimizer = _optimizer(parameters, settings)
        order = torch.randperm(len(images), generator=generator)
        total = torch.zeros((), device=device)
        for rows in order.to(device).tensor_split(steps):
            batch = images[rows]
            if settings.form == "corrected":
                batch = torch.roll(batch, _draw_shift(limit, generator), dims=(2, 3))
            loss = distillation_loss(
                model(batch), logits[rows], settings.temperature, settings.weight
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            done += len(rows)
            if progress is not None:
                progress(done, settings.epochs * len(images))
        losses.append(_require_finite(total.item() / len(images), epoch))
        model.eval()
        if after_epoch is not None:
            after_epoch(epoch, model, losses[-1])
    model.zero_grad(set_to_none=True)
    for parameter, before in zip(model.parameters(), required, strict=True):
        parameter.requires_grad_(before)
    return Distillation(model=model.eval().cpu(), losses=losses)


def _optimizer(parameters: list[nn.Parameter], settings: DistillationSettings) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov and settings.momentum > 0,
        weight_decay=settings.weight_decay,
        # One launch for all parameters; on a CPU there is nothing to launch.
        fused=all(parameter.is_cuda for parameter in parameters),
    )


def _draw_shift(limit: int, generator: torch.Generator) -> tuple[int, int]:
    down, right = torch.randint(-limit, limit + 1, (2,), generator=generator).tolist()
    return down, right


def _set_training_mode(model: nn.Module, frozen_statistics: bool, layers: Layers) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            # A layer that is not trained itself belongs to the features that are to stay.
            own = list(module.parameters())
            trained = any(p.requires_grad for p in own) if own else layers in ("auto", "all")
            module.train(trained and not frozen_statistics)


def _require_finite(loss: float, epoch: int) -> float:
    if not math.isfinite(loss):
        raise DistillationError(
            f"the distillation loss became {loss} in epoch {epoch}: lower the learning rate or the "
            "weight, and check that the soft labels are finite"
        )
    return loss
