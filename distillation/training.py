"""Training the global model, or parts of it, on pseudo data with soft labels."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from foundation import ExpectedError
from foundation.models.classifier import head_name
from foundation.settings import DistillationSettings, Layers
from foundation.settings.post_training import SMALLEST_PHOTOGRAPH

_Normalisation = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)


def chosen_layers(model: nn.Module, layers: Layers, image_size: Sequence[int]) -> Layers:
    """Return which parameters of a federated model auto means; other values are left as they are.

    affine for photographs, whose pseudo images are no match for the real images that made the
    features; all for tiny images, which inversion reaches nearly as good as real ones, and for
    models without a linear head. `image_size` is (height, width) in pixels.
    """
    if layers != "auto":
        return layers
    return "affine" if min(image_size) >= SMALLEST_PHOTOGRAPH and _has_head(model) else "all"


def _has_head(model: nn.Module) -> bool:
    try:
        head_name(model)
    except ValueError:
        return False
    return True


def trained_parameters(model: nn.Module, layers: Layers) -> list[nn.Parameter]:
    """Return the parameters to train, in the model's order; none that requires no gradient.

    all, and auto, where nothing is known of the student: every parameter. head: weight and bias of
    the last linear layer, so that the features stay what real images made them. affine: these, and
    scale and shift of every normalisation layer, so that features may be weighed anew but not
    replaced. A ValueError says that the model has no linear layer with a bias, where one is needed.
    """
    if layers in ("auto", "all"):
        return [parameter for parameter in model.parameters() if parameter.requires_grad]
    chosen: list[nn.Module] = [model.get_submodule(head_name(model))]
    if layers == "affine":
        chosen += [module for module in model.modules() if isinstance(module, _Normalisation)]
    wanted = {id(p) for module in chosen for p in module.parameters(recurse=False)}
    return [p for p in model.parameters() if p.requires_grad and id(p) in wanted]


#: Called with (images done, images in all), an image counting once per epoch.
Progress = Callable[[int, int], None]
#: Called with (epoch from 1 on, student in evaluation mode, mean loss of the epoch).
AfterEpoch = Callable[[int, nn.Module, float], None]


class DistillationError(ExpectedError, RuntimeError):
    """The loss of a distillation stopped being a number."""


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, weight: float = 1.0
) -> Tensor:
    """Kullback-Leibler divergence of the student's softened prediction from the teacher's.

    w·T²·KL( softmax(z/T) || softmax(s/T) ), mean over the batch of logits s and z, (n, classes); T
    is above 0, and its square keeps gradients of one size. Hinton, Vinyals and Dean 2015, section
    2; the loss of Zhao et al. 2024 with w = 1e-3 and T = 3.
    """
    divergence = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return weight * temperature**2 * divergence


def steps_of_a_pass(images: int, batch_size: int) -> int:
    """Return how many batches of nearly equal size one pass over n images takes.

    None is of a single image: BatchNorm cannot train on one.
    """
    return max(1, min(math.ceil(images / batch_size), images // 2))


def finite(loss: float, when: str = "") -> float:
    """Return a mean loss; a DistillationError says that it is not a finite number."""
    if not math.isfinite(loss):
        raise DistillationError(
            f"the distillation loss became {loss}{when}: lower the method's learning-rate (or its "
            "weight), and check that the soft labels are finite"
        )
    return loss


@dataclass(frozen=True)
class Distillation:
    """The student after its last epoch, evaluating on the CPU, and the mean loss of each epoch."""

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
    """Distil soft labels into a copy of the student, the global model, which is not changed.

    Images are (n, C, H, W) float32, normalised; `logits`, (n, classes) float32, are the teacher's
    answers. Both stay on the device for the whole training and nothing is read back but the loss of
    each epoch. The order and the shifts of the images depend on the seed alone. Which model is kept
    is not chosen here: the last one is returned. `progress` and `after_epoch` are called after
    every step, and after every epoch. A :class:`DistillationError` says that the loss stopped being
    a finite number.
    """
    settings = settings or DistillationSettings()
    if len(images) != len(logits):
        raise ValueError(f"{len(images)} images, but soft labels for {len(logits)}")
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(student).to(device).to(memory_format=torch.channels_last)
    if len(images) == 0:
        return Distillation(model.eval().cpu(), [])
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
    steps = steps_of_a_pass(len(images), settings.batch_size)
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
        losses.append(finite(total.item() / len(images), f" in epoch {epoch}"))
        model.eval()
        if after_epoch is not None:
            after_epoch(epoch, model, losses[-1])
    model.zero_grad(set_to_none=True)
    for parameter, before in zip(model.parameters(), required, strict=True):
        parameter.requires_grad_(before)
    return Distillation(model.eval().cpu(), losses)


def _optimizer(parameters: list[nn.Parameter], settings: DistillationSettings) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
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
