"""Measure a model on the server's test set. The test set is read, never selected on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foundation.data import ImageData, Normalization
from foundation.models.evaluation import LabelledImages
from foundation.scores import Outcomes


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
    logits, labels : Tensor
        (n, C) and (n,), on the device.
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
        # Copies: the images may be memory-mapped and read-only.
        images, labels = torch.tensor(data.images), torch.tensor(data.labels)
        self._test_set = LabelledImages(images, labels, normalization.apply, device)
        self._classes = data.classes

    def __call__(self, model: nn.Module) -> Evaluation:
        """Evaluate in eval mode; the model is left in the mode it was in."""
        found = self._test_set.predictions(model)
        pairs = self._test_set.labels * self._classes + found.predicted
        confusion = torch.zeros(self._classes**2, dtype=torch.int64, device=pairs.device)
        # Not bincount: the device would be asked how long its result is.
        confusion.index_add_(0, pairs, torch.ones_like(pairs))
        table = confusion.view(self._classes, self._classes).cpu()
        count = len(self._test_set)
        loss = float(found.loss) / count
        accuracy = int(table.diagonal().sum()) / count
        return Evaluation(accuracy, loss, table.tolist(), found.logits, self._test_set.labels)
