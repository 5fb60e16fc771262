"""The images that a model takes for another class, as it sees them; the surest answers first."""

from __future__ import annotations

import heapq
import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedf2dg.report.document import Gallery, Note, Section
from foundation import counted

_MOST = 48


@dataclass
class WrongImages:
    """The surest of the wrong answers, as PNG files with what is said of each; how many there were.

    ``kept`` holds (confidence, -place among all that were wrong, PNG, lines of text).
    """

    count: int = 0
    kept: list[tuple[float, int, bytes, list[str]]] = field(default_factory=list)

    def add(self, said: str, where: str, confidence: float, pixels: NDArray[np.float32]) -> None:
        """Count an image, (channels, H, W) with values about 0 to 1."""
        self.count += 1
        if len(self.kept) == _MOST and confidence <= self.kept[0][0]:
            return
        lines = [f"{said} ({100 * confidence:.0f} %)", where]
        one = (confidence, -self.count, _png(pixels), lines)
        (heapq.heappush if len(self.kept) < _MOST else heapq.heapreplace)(self.kept, one)

    def section(self) -> list[Section]:
        """Return them as the section of a page; none where nothing was wrong."""
        if not self.kept:
            return []
        said = f"{counted(self.count, 'image')} taken for another class, as the model sees them"
        said += "" if self.count <= _MOST else f"; the {_MOST} it is surest of"
        gallery = Gallery([(png, lines) for _, _, png, lines in sorted(self.kept, reverse=True)])
        return [Section("What it gets wrong", [Note(f"{said}."), gallery], long=True)]


def _png(pixels: NDArray[np.float32]) -> bytes:
    image = (pixels.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(content, "PNG")
    return content.getvalue()
