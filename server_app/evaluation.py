"""Measure a model on the server's test set. The test set is read, never selected on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from federated_data import ImageData, Normalization

# Pixels of one forward pass. On a CPU larger batches leave the caches: evaluating resnet8 on 2,000
# images of 32x32 takes 0.5 s in batches of 64 and 1.2 s in batches of 1,024.
_PIXELS = {"cpu": 2**16, "cuda": 2**20}


@dataclass(frozen=True)
class Evaluation:
    """What a model does on the test set.

    Parameters
    ----------
    accuracy : float
        Fraction of images classified correctly, 0 to 1.
    loss : float
        Mean cross-entropy.
    confusion : list[list[int]]
        Counts; row: true class, column: predicted class.
    """

    accuracy: float
    loss: float
    confusion: list[list[int]]


class Evaluator:
    """Holds the test set on the device.

    Parameters
    ----------
    data : ImageData
        The test split.
    normalization : Normalization
        The data set's constants.
    device : torch.device
        Where to evaluate.
    """

    def __init__(self, data: ImageData, normalization: Normalization, device: torch.device) -> None:
        # A copy: the images may be memory-mapped and read-only.
        self._images = torch.tensor(data.images, device=device)
        self._labels = torch.tensor(data.labels, device=device)
        self._normalization = normalization
        self._classes = data.classes
        pixels = _PIXELS.get(device.type, _PIXELS["cpu"])
        self._batch = max(1, pixels // (data.images.shape[-2] * data.images.shape[-1]))

    @torch.inference_mode()
    def __call__(self, model: nn.Module) -> Evaluation:
        """Evaluate in eval mode; the model is left in the mode it was in."""
        was_training = model.training
        model.eval()
        count = len(self._labels)
        confusion = torch.zeros(self._classes**2, dtype=torch.int64, device=self._labels.device)
        loss = torch.zeros((), dtype=torch.float64, device=self._labels.device)
        for start in range(0, count, self._batch):
            labels = self._labels[start : start + self._batch]
            images = self._normalization.apply(self._images[start : start + self._batch])
            logits: Tensor = model(images.contiguous(memory_format=torch.channels_last))
            loss += F.cross_entropy(logits, labels, reduction="sum")
            pairs = labels * self._classes + logits.argmax(dim=1)
            # Not bincount: the device would be asked how long its result is.
            confusion.index_add_(0, pairs, torch.ones_like(pairs))
        model.train(was_training)
        table = confusion.view(self._classes, self._classes).cpu()
        return Evaluation(int(table.diagonal().sum()) / count, float(loss) / count, table.tolist())
