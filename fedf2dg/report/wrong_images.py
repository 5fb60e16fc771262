"""The images that a model takes for another class, as it sees them; the surest answers first."""

import heapq
import io
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedf2dg.report.document import Gallery, Note, Section
from foundation import counted

MOST = 48

Pixels = NDArray[np.floating[Any]]


@dataclass
class WrongImages:
    """The surest of the wrong answers, as PNG files with what is said of each; how many there were.

    ``kept`` holds (confidence, -place among all that were wrong, PNG, lines of text).
    """

    count: int = 0
    kept: list[tuple[float, int, bytes, list[str]]] = field(default_factory=list)

    def add(self, said: str, where: str, confidence: float, pixels: Pixels) -> None:
        """Count an image, (channels, H, W) with values about 0 to 1."""
        self.count += 1
        if len(self.kept) == MOST and confidence <= self.kept[0][0]:
            return
        lines = [f"{said} ({100 * confidence:.0f} %)", where]
        one = (confidence, -self.count, _png(pixels), lines)
        (heapq.heappush if len(self.kept) < MOST else heapq.heapreplace)(self.kept, one)

    def as_json(self) -> dict[str, Any]:
        """Return them as a file holds them."""
        kept = [[*rest, b64encode(png).decode(), lines] for *rest, png, lines in self.kept]
        return {"count": self.count, "kept": kept}

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_json` returned; KeyError, TypeError or ValueError of others."""
        kept = [
            (float(confidence), int(place), b64decode(png), [str(line) for line in lines])
            for confidence, place, png, lines in found["kept"]
        ]
        return cls(int(found["count"]), kept)

    def section(self, most: int = MOST) -> list[Section]:
        """Return them as the section of a page; none where nothing was wrong."""
        if not self.kept:
            return []
        said = f"{counted(self.count, 'image')} taken for another class, as the model sees them"
        said += "" if self.count <= most else f"; the {most} it is surest of"
        surest = sorted(self.kept, reverse=True)[:most]
        gallery = Gallery([(png, lines) for _, _, png, lines in surest])
        return [Section("What it gets wrong", [Note(f"{said}."), gallery], long=True)]


def _png(pixels: Pixels) -> bytes:
    image = (pixels.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(content, "PNG")
    return content.getvalue()
