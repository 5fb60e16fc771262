"""Labelled images in memory, and the step between stored bytes and what a network sees."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from foundation.errors import DataError

if TYPE_CHECKING:
    import torch

    from .noise import FeatureNoise


@dataclass(frozen=True)
class Normalization:
    """The affine map from bytes to network input: ``(byte / 255 - mean) / std`` per channel.

    Mean and standard deviation are in pixel units of [0, 1].
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_weights(
        cls, mean: tuple[float, ...], std: tuple[float, ...], channels: int
    ) -> "Normalization":
        """Return constants as weights want them; grey images take the mean of the colours."""
        if channels == len(mean):
            return cls(mean, std)
        return cls(
            (round(sum(mean) / len(mean), 4),) * channels,
            (round(sum(std) / len(std), 4),) * channels,
        )

    @property
    def channels(self) -> int:
        """How many channels the constants are for."""
        return len(self.mean)

    def _constants(self, like: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
        shape = (-1, 1, 1)
        return (
            like.new_tensor(self.mean).reshape(shape),
            like.new_tensor(self.std).reshape(shape),
        )

    def apply(self, images: "torch.Tensor") -> "torch.Tensor":
        """Map uint8 images (n, C, H, W) or (C, H, W) to normalised float32 of the same shape."""
        pixels = images.float()
        mean, std = self._constants(pixels)
        return pixels.div(255).sub_(mean).div_(std)

    def invert(self, images: "torch.Tensor") -> "torch.Tensor":
        """Map normalised floats (n, C, H, W) or (C, H, W) to the nearest uint8 images."""
        pixels = images.detach().float()
        mean, std = self._constants(pixels)
        return pixels.mul(std).add_(mean).mul_(255).round_().clamp_(0, 255).byte()

    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lowest and highest normalised value a real pixel can take, per channel."""
        pairs = list(zip(self.mean, self.std, strict=True))
        return tuple(-m / s for m, s in pairs), tuple((1 - m) / s for m, s in pairs)


def refuse_labels_outside(
    labels: npt.NDArray[np.integer], classes: int, where: Callable[[int], str]
) -> None:
    """Refuse labels that are no positions among the classes; `where` names an image."""
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{where(row)} has label {labels[row]}, outside 0..{classes - 1} ({classes} classes)"
            + (f"; there are {len(outside):,} such labels" if len(outside) > 1 else "")
        )


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images of one size, uint8 (n, C, H, W), grey or RGB, and their classes, int64 (n,).

    The images may be memory-mapped and read-only. Noise is what batches of them carry (see
    `noise`).
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    feature_noise: "FeatureNoise | None" = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes, including those that have no image here."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return int(self.images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def label_counts(self) -> npt.NDArray[np.int64]:
        """Images per class, shape (classes,)."""
        return np.bincount(self.labels, minlength=self.classes).astype(np.int64)

    def require_some(self, owner: str) -> None:
        """Refuse an owner without a training image, by name."""
        if not len(self):
            raise DataError(f"{owner} has no training image: give it data or leave it out")

    def digest(self, key: bytes) -> str:
        """Return a digest that says whether the images are the same, to whoever has no `key`.

        HMAC-SHA256 over the images in whatever order: without the key, nobody can compute it for
        images that he guesses.
        """
        rows = zip(self.images, self.labels, strict=True)
        every = sorted(
            hashlib.sha256(image.tobytes() + int(label).to_bytes(8, "little")).digest()
            for image, label in rows
        )
        return hmac.new(key, b"".join(every), "sha256").hexdigest()[:32]

    def subset(self, indices: npt.NDArray[np.integer[Any]] | Sequence[int]) -> "ImageData":
        """Copy the images of these rows, in this order, into memory."""
        rows = np.asarray(indices, dtype=np.int64)
        return replace(self, images=self.images[rows], labels=self.labels[rows])
