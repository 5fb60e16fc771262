"""What do your pixels add up to? Mean and deviation that images are normalised with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent
from foundation.settings.configuration import ConfigurationError

from .question import Question, Request, Site

_MOST = 2**62
_BYTE = 255
# A channel of one grey value deviates by nothing, which nothing can be divided by: one step of it.
_LEAST_DEVIATION = 1 / _BYTE


@dataclass(frozen=True)
class PixelSums:
    """Sums over all pixels of a client's training images, exact whole numbers.

    So many ``pixels`` of one channel; by channel, sum of the bytes 0 to 255 and of their squares.
    """

    pixels: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8]) -> Self:
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

    def content(self) -> Content:
        """Return them as an answer."""
        return Content(
            numbers={
                "pixels": self.pixels,
                "pixel-sums": list(self.sums),
                "pixel-squares": list(self.squares),
            }
        )


def tell(site: Site, asked: Received) -> Content:
    """Add up the training images' pixels, where the run's configuration says so."""
    if not site.configuration.measures_pixels:
        raise ConfigurationError("this run's configuration says that pixels are not added up")
    return PixelSums.of(site.data().images).content()


question = Question("pixel_sums", tell)


@dataclass(frozen=True)
class PixelSumsRequest(Request[PixelSums, tuple[list[float], list[float]]]):
    """Ask for the pixel sums of images (C, H, W)."""

    image_shape: tuple[int, int, int]

    asks = question

    def checked(self, who: Participant, reply: Received) -> PixelSums:
        channels, height, width = self.image_shape
        # A client weighs what its images weigh.
        pixels = reply.whole_number("pixels", 1, _MOST)
        if pixels != (right := who.num_examples * height * width):
            raise InvalidContent(f"its images have {right} pixels a channel; it added up {pixels}")
        sums = reply.whole_numbers("pixel-sums", channels, _MOST)
        squares = reply.whole_numbers("pixel-squares", channels, _MOST)
        for total, square in zip(sums, squares, strict=True):
            # Σx ≤ Σx² ≤ 255·Σx for whole numbers from 0 to 255, and (Σx)² ≤ n·Σx².
            if not total <= square <= _BYTE * total or total**2 > pixels * square:
                raise InvalidContent("its sums of pixels are of no images")
        return PixelSums(pixels, tuple(sums), tuple(squares))

    def pooled(self, answers: Mapping[int, PixelSums]) -> tuple[list[float], list[float]]:
        """Return mean and deviation of all pixels together, by channel: the pooled images' own."""
        parts = list(answers.values())
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
