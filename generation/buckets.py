"""Batches of few sizes: what is recorded for a size serves every budget near it.

A CUDA graph holds for one batch size. The data generation principle gives every client a budget of
its own, in every batch another, and recording takes seconds and memory for each. So a batch is
filled up to the next of few sizes, and the images that fill it weigh nothing: neither in the loss
nor in the statistics of a BatchNorm layer's input. What is computed for the others is what would be
computed without them, up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST = 8
"""Smallest size, and what every size is a multiple of: matrix units work in such tiles."""


def bucket(count: int) -> int:
    """Return the batch size that ``count`` images (1 or more) are filled up to.

    Four sizes for every doubling: 80, 96, 112, 128, 160, … At most a quarter of the real images is
    added above 32, at most seven images below.
    """
    step = max(SMALLEST, 1 << max(0, (count - 1).bit_length() - 3))
    return -(-count // step) * step


@dataclass(frozen=True)
class Batch:
    """Images to optimise together, of which the first are wanted.

    Parameters
    ----------
    images : Tensor
        (size, C, H, W).
    labels : Tensor
        (size,) int64.
    weights : Tensor or None
        (size,) float32 that sum to 1: how much each image counts in a mean over the batch. None:
        all count alike.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor | None = None

    @classmethod
    def filled(cls, images: Tensor, labels: Tensor) -> Batch:
        """Fill a batch (1 image or more) up to its bucket with copies that weigh nothing."""
        count = len(labels)
        rows = torch.arange(bucket(count), device=labels.device)
        repeated = rows % count
        return cls(images[repeated], labels[repeated], (rows < count) / count)


def mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over the first dimension, weighted with weights that sum to 1, or plain."""
    if weights is None:
        return values.mean(dim=0)
    weighted: Tensor = torch.tensordot(weights, values, dims=1)
    return weighted
