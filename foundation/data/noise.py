"""Feature noise and label noise of a client's training data.

Feature noise follows NIID-Bench's code: Gaussian, added to pixels in [0, 1] after the spatial
augmentation and before normalisation, drawn anew for every batch and not clipped. It therefore
belongs to the batch, not to the stored bytes: clipping would shrink it, and a flip or a crop would
move the cell of ``space`` noise into another client's. It is how a client's images look: those that
it holds out, or runs a model over, carry it as well, in a draw that stays the same.

Li et al.: Federated Learning on Non-IID Data Silos, ICDE 2022, section III-B and its published
code. Han et al.: Co-teaching, NeurIPS 2018, appendix A (symmetric and pair-flip label noise).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foundation.errors import DataError
from foundation.seeds import sent

# Keeps a client's label noise independent of a partition drawn with the same seed.
_LABEL_NOISE_STREAM = 0x6C61


#: Seed of the noise of images that are looked at again and again.
STEADY_NOISE = 0x6661


@dataclass(frozen=True)
class FeatureNoise:
    """Gaussian pixel noise of one client: of what size, and where.

    The standard deviation is in pixel units of [0, 1]; the cell, (top, left, height, width), is all
    of the image if it is None.
    """

    std: float
    cell: tuple[int, int, int, int] | None = None


def feature_noise(
    kind: str, noise: float, *, client: int, clients: int, image_size: tuple[int, int]
) -> FeatureNoise | None:
    """Work out which noise client i of N carries; None if none.

    `noise` is a standard deviation in pixel units of [0, 1], images are (height, width) in pixels.

    ``level``: the standard deviation grows linearly with the client, ``noise * i / (N - 1)`` for
    client i = 0 .. N - 1 (a client alone carries it in full). The paper writes i / N with i = 1 ..
    N; the code that produced its tables, followed here, leaves the first client clean.

    ``space``: every client carries `noise` in full, in its own cell of a square grid over the
    image; the grid is the smallest with a cell per client and client i's cell is the i-th in
    reading order. The published code fixes the image at 28 pixels, leaves the last client clean and
    lets several clients share a cell or fall outside; what the paper describes is built here.

    Images too small for the grid are a DataError.
    """
    if noise == 0:
        return None
    if kind == "level":
        std = noise * client / (clients - 1) if clients > 1 else noise
        return FeatureNoise(std) if std > 0 else None
    side = math.isqrt(clients - 1) + 1
    height, width = image_size[0] // side, image_size[1] // side
    if height == 0 or width == 0:
        raise DataError(
            f"feature-noise-kind 'space' needs a grid of {side}x{side} cells for {clients} "
            f"clients, more than images of {image_size[0]}x{image_size[1]} pixels have: use "
            f"fewer clients or 'level'"
        )
    row, column = divmod(client, side)
    return FeatureNoise(noise, (row * height, column * width, height, width))


def add_noise(
    images: Tensor, noise: FeatureNoise, std: Sequence[float], generator: torch.Generator
) -> None:
    """Add noise in place to normalised images (n, C, H, W), where ``std`` normalised them.

    The generator is on the CPU.
    """
    top, left, height, width = noise.cell or (0, 0, *images.shape[2:])
    cell = images[:, :, top : top + height, left : left + width]
    scale = 1 / torch.tensor(std).view(1, -1, 1, 1)
    drawn = torch.randn(cell.shape, generator=generator).mul_(scale)
    cell.add_(sent(drawn, images.device), alpha=noise.std)


def noisy_labels(
    labels: npt.NDArray[np.int64], kind: str, rate: float, *, classes: int, seed: int, client: int
) -> npt.NDArray[np.int64]:
    """Return labels of which each is replaced, with probability `rate`, by a wrong one.

    ``symmetric``: any other class, all equally likely; ``pairflip``: the next class, in a circle.
    The draw depends on `seed` and `client` alone. Fewer than two classes are a DataError.
    """
    if kind == "none" or rate == 0:
        return labels.copy()
    if classes < 2:
        raise DataError(f"label noise needs at least 2 classes, not {classes}")
    rng = np.random.default_rng([seed, client, _LABEL_NOISE_STREAM])
    changed = rng.random(len(labels)) < rate
    # A step of 1 .. classes - 1 round the circle of classes reaches every other class once.
    steps = rng.integers(1, classes, size=len(labels)) if kind == "symmetric" else 1
    return np.where(changed, (labels + steps) % classes, labels)
