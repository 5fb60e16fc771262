"""What a client's pixels add up to: the mean and deviation that images are normalised with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flwr.app import MetricRecord

from foundation.messages.numbers import whole_numbers
from foundation.messages.records import InvalidContent

_NAMES = ("pixels", "pixel-sums", "pixel-squares")
_MOST = 2**62
_BYTE = 255
# A channel of one grey value deviates by nothing, which nothing can be divided by: one step of it.
_LEAST_DEVIATION = 1 / _BYTE


@dataclass(frozen=True)
class PixelSums:
    """Sums over all pixels of a client's training images, exact whole numbers.

    Parameters
    ----------
    pixels : int
        How many pixels, of one channel.
    sums, squares : tuple of int
        Sum of the bytes 0 to 255, and of their squares, by channel.
    """

    pixels: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8]) -> PixelSums:
        """Add up images (n, C, H, W)."""
        values = np.arange(_BYTE + 1, dtype=np.int64)
        # Counted by value: that needs no other copy of the images, and cannot overflow.
        counts = [
            np.bincount(images[:, channel].ravel(), minlength=_BYTE + 1)
            for channel in range(images.shape[1])
        ]
        return cls(
            int(counts[0].sum()),
            tuple(int(count @ values) for count in counts),
            tuple(int(count @ values**2) for count in counts),
        )

    def metrics(self) -> dict[str, int | list[int]]:
        """Return them as a reply carries them."""
        values = (self.pixels, list(self.sums), list(self.squares))
        return dict(zip(_NAMES, values, strict=True))

    @property
    def bytes(self) -> int:
        """How many bytes of numbers that is."""
        return 8 * (1 + len(self.sums) + len(self.squares))

    @classmethod
    def received(cls, metrics: MetricRecord, pixels: int, channels: int) -> PixelSums:
        """Read what :meth:`metrics` wrote.

        Parameters
        ----------
        metrics : MetricRecord
            Of the reply.
        pixels : int
            How many the client's images have: a client weighs what its images weigh.
        channels : int
            C.

        Raises
        ------
        InvalidContent
            If no images of bytes have such sums, or of another number of pixels.
        """
        if metrics.get("pixels") != pixels:
            raise InvalidContent(
                f"its images have {pixels} pixels a channel; it added up {metrics.get('pixels')}"
            )
        sums, squares = (whole_numbers(metrics, name, channels, _MOST) for name in _NAMES[1:])
        for total, square in zip(sums, squares, strict=True):
            # Σx ≤ Σx² ≤ 255·Σx for whole numbers from 0 to 255, and (Σx)² ≤ n·Σx².
            if not total <= square <= _BYTE * total or total**2 > pixels * square:
                raise InvalidContent("its sums of pixels are of no images")
        return cls(pixels, tuple(sums), tuple(squares))


def pooled(parts: Sequence[PixelSums]) -> tuple[list[float], list[float]]:
    """Return mean and deviation of all pixels together, by channel: the pooled images' own.

    Parameters
    ----------
    parts : sequence of PixelSums
        One or more, of as many channels.
    """
    pixels = sum(part.pixels for part in parts)
    means, deviations = [], []
    for channel in range(len(parts[0].sums)):
        total = sum(part.sums[channel] for part in parts)
        square = sum(part.squares[channel] for part in parts)
        means.append(total / pixels / _BYTE)
        # Whole numbers until here, so that nothing cancels.
        variance = (pixels * square - total**2) / pixels**2
        deviations.append(max(variance**0.5 / _BYTE, _LEAST_DEVIATION))
    return means, deviations
