"""The data generation principle: how many images of which class each client's model is asked for.

Zhao et al. 2024, section on adaptive data generation. Client i has ``n_i`` training samples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foundation.data.partitions import largest_remainder

#: Weight of the quality term against the share of samples, from the second batch on.
QUALITY_PART = 1 / 3


def _counts(name: str, given: Sequence[Any], axes: int = 1) -> np.ndarray:
    counts = np.asarray(given, dtype=np.float64)
    finite = np.all(np.isfinite(counts)) and not np.any(counts < 0)
    if counts.ndim != axes or counts.size == 0 or not finite:
        raise ValueError(f"{name} = {given}: must be numbers, 0 or more, along {axes} axes")
    return counts


def shares(num_examples: Sequence[float]) -> np.ndarray:
    """Share of each client in all samples, (clients,) float64: share_i = n_i / sum_j n_j.

    n_i, or anything proportional to it, are 0 or more, not all 0.
    """
    counts = _counts("num_examples", num_examples)
    if counts.sum() == 0:
        raise ValueError("num_examples must not all be 0")
    every: np.ndarray = counts / counts.sum()
    return every


def quality(losses: Sequence[float]) -> np.ndarray:
    """How little the global model knows of each client: a softmax, (clients,) float64, of losses.

    A loss is the cross-entropy of the global model on the client's last generated batch. nan counts
    as the mean of the others.
    """
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or np.any(np.isinf(values)):
        raise ValueError(f"losses = {losses}: must be finite or nan, one for each client")
    known = values[~np.isnan(values)]
    values = np.where(np.isnan(values), known.mean() if len(known) else 0.0, values)
    exponentials = np.exp(values - values.max())
    every: np.ndarray = exponentials / exponentials.sum()
    return every


def budgets(
    images: int, num_examples: Sequence[float], losses: Sequence[float] | None = None
) -> list[int]:
    """Number of images to generate from each client's model: 0 or more, together `images` exactly.

    share_i of them in the first batch (no `losses`), 1/3·quality_i + 2/3·share_i afterwards,
    rounded by largest remainder.
    """
    weights = shares(num_examples)
    if losses is not None:
        if len(losses) != len(weights):
            raise ValueError(f"{len(losses)} losses for {len(weights)} clients")
        weights = QUALITY_PART * quality(losses) + (1 - QUALITY_PART) * weights
    return largest_remainder(images, weights)


def class_balanced(label_counts: Sequence[Sequence[float]]) -> np.ndarray:
    """Return label weights under which every class that somebody holds counts the same.

    w_i,c = n_i,c / Σ_j n_j,c, (clients, classes), taken in place of the counts n_i,c: budgets share
    out by Σ_c w_i,c and labels are drawn in the shares w_i,c, each client being asked for a class
    as far as it holds it. The column of a class that nobody holds is 0, all others sum to 1.
    """
    counts = _counts("label_counts", label_counts, axes=2)
    weights: np.ndarray = counts / np.maximum(counts.sum(axis=0), np.finfo(np.float64).tiny)
    return weights


def draw_labels(budget: int, label_counts: Sequence[float], seed: int) -> Tensor:
    """Draw the classes of a client's images, int64 (budget,), from its own label distribution.

    The draw is systematic: class k occurs budget·p_k times, rounded down or up at random with the
    right mean; small batches represent it better than independent draws would. `label_counts` are
    the client's samples of each class, or anything proportional to it. The order is random and
    depends on the arguments alone.
    """
    counts = _counts("label_counts", label_counts)
    if budget < 0:
        raise ValueError(f"budget = {budget}: must be 0 or more")
    if counts.sum() == 0:
        raise ValueError("label_counts are all 0: no class to generate")
    random = np.random.default_rng(seed)
    edges = np.cumsum(counts) / counts.sum()
    edges[counts.nonzero()[0][-1] :] = 1.0
    # One point in each of `budget` equal intervals, at the same place in all of them.
    points = (np.arange(budget) + random.random()) / max(budget, 1)
    points = np.minimum(points, np.nextafter(1.0, 0.0))
    labels = np.searchsorted(edges, points, side="right")
    return torch.from_numpy(random.permutation(labels).astype(np.int64))
