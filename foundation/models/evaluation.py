"""What a model says of images, one by one: server and clients measure alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.scores import Outcomes

from .classifier import Classifier, head_name
from .device import device_of
from .freezing import KeptFeatures, Store

if TYPE_CHECKING:
    from foundation.data import ImageData, Normalization

# Pixels of one forward pass. On a CPU larger batches leave the caches: evaluating resnet8 on 2,000
# images of 32x32 takes 0.5 s in batches of 64 and 1.2 s in batches of 1,024.
_PIXELS = {"cpu": 2**16, "cuda": 2**20}


@dataclass(frozen=True)
class Predictions:
    """A model's answers to n images, on the model's device.

    ``logits`` are (n, C) float32; ``predicted``, (n,) int64, is the class with the largest;
    ``loss`` is the sum of the images' cross-entropies, a float64 scalar. In ``correct``, (n,) bool,
    an image with logits that are not finite is never right.
    """

    logits: Tensor
    predicted: Tensor
    correct: Tensor
    loss: Tensor


class LabelledImages:
    """Images on the device to run models over, always in the same order and the same batches.

    Models that differ behind their encoder alone, one after the other, run it once. Images are (n,
    C, H, W) uint8, which ``normalize`` maps to what the model sees, labels (n,) int64. ``store``
    keeps the features of a frozen encoder beyond this process.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        normalize: Callable[[Tensor], Tensor],
        device: torch.device,
        store: Store | None = None,
    ) -> None:
        self.labels = labels.to(device)
        self._images = images.to(device)
        self._normalize = normalize
        pixels = _PIXELS.get(device.type, _PIXELS["cpu"])
        self._batch = max(1, pixels // (images.shape[-2] * images.shape[-1]))
        self._features = KeptFeatures(self._inputs, store)

    def __len__(self) -> int:
        return len(self.labels)

    def _inputs(self) -> Iterator[Tensor]:
        for images in self._images.split(self._batch):
            yield self._normalize(images).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predictions(self, model: nn.Module) -> Predictions:
        """Run the model in eval mode; it is left in the mode it was in."""
        was_training = model.training
        model.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.labels.device)
        answers = []
        kept = self._features.of(model) if isinstance(model, Classifier) and len(self) else None
        inputs = self._inputs() if kept is None else kept.split(self._batch)
        for part, labels in zip(inputs, self.labels.split(self._batch), strict=True):
            answers.append(model(part))
            loss += F.cross_entropy(answers[-1], labels, reduction="sum")
        model.train(was_training)
        logits = torch.cat(answers).float()
        predicted = logits.argmax(dim=1)
        correct = (predicted == self.labels) & logits.isfinite().all(dim=1)
        return Predictions(logits, predicted, correct, loss)


@dataclass(frozen=True)
class Evaluation:
    """What a model does on n images: accuracy, 0 to 1, and mean cross-entropy.

    ``confusion`` counts; row: true class, column: predicted class. ``logits`` (n, C) and ``labels``
    (n,) are on the device.
    """

    accuracy: float
    loss: float
    confusion: list[list[int]]
    logits: Tensor
    labels: Tensor

    def outcomes(self) -> Outcomes:
        """Add all of it up, on the CPU: only where it is asked for, as the device has to wait."""
        return Outcomes.counted(self.logits.cpu().numpy(), self.labels.cpu().numpy())


class Evaluator:
    """Holds a data set on the device."""

    def __init__(self, data: ImageData, normalization: Normalization, device: torch.device) -> None:
        # Copies: the images may be memory-mapped and read-only.
        images, labels = torch.tensor(data.images), torch.tensor(data.labels)
        self._images = LabelledImages(images, labels, normalization.apply, device)
        self._classes = data.classes

    def __call__(self, model: nn.Module) -> Evaluation:
        """Evaluate in eval mode; the model is left in the mode it was in."""
        found, labels = self._images.predictions(model), self._images.labels
        pairs = labels * self._classes + found.predicted
        confusion = torch.zeros(self._classes**2, dtype=torch.int64, device=pairs.device)
        # Not bincount: the device would be asked how long its result is.
        confusion.index_add_(0, pairs, torch.ones_like(pairs))
        table = confusion.view(self._classes, self._classes).cpu()
        loss = float(found.loss) / len(labels)
        accuracy = int(table.diagonal().sum()) / len(labels)
        return Evaluation(accuracy, loss, table.tolist(), found.logits, labels)


_AT_ONCE = 256


@torch.no_grad()
def predicted_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return a model's logits for images (n, C, H, W), n > 0: (n, classes) float32 on the CPU.

    The model is used in the mode it is in; the images may be on any device.
    """
    return torch.cat(
        [model(part.to(device_of(model))).float().cpu() for part in images.split(_AT_ONCE)]
    )


def features_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the input of the head for images (n, C, H, W), n > 0: (n, d) float32 on the CPU.

    The classifier is used in the mode it is in; the images may be on any device.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().float().cpu())

    handle = model.get_submodule(head_name(model)).register_forward_pre_hook(keep)
    try:
        predicted_logits(model, images)
    finally:
        handle.remove()
    return torch.cat(seen)
