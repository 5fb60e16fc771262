"""What a run's model says of its test images, one by one and by site, for its report."""

import heapq
import io
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedf2dg.report.document import Gallery, Note, Section, Table
from fedf2dg.report.run_record import mapping
from fedf2dg.report.verdict import Evidence, sites_table
from foundation import counted, write_whole
from foundation.data import ImageData
from foundation.scores import Outcomes
from foundation.settings.configuration import RunConfiguration

MOST = 48


@dataclass
class WrongImages:
    """The surest of the wrong answers, as PNG files with what is said of each; how many there were.

    ``kept`` holds (confidence, -place among all that were wrong, PNG in base64, lines of text).
    """

    count: int = 0
    kept: list[tuple[float, int, str, list[str]]] = field(default_factory=list)

    def add(self, said: str, where: str, confidence: float, pixels: NDArray[np.uint8]) -> None:
        """Count an image, (channels, H, W)."""
        self.count += 1
        if len(self.kept) == MOST and confidence <= self.kept[0][0]:
            return
        lines = [f"{said} ({100 * confidence:.0f} %)", where]
        one = (confidence, -self.count, _png(pixels), lines)
        (heapq.heappush if len(self.kept) < MOST else heapq.heapreplace)(self.kept, one)

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Self:
        """Read what a file holds of one; KeyError, TypeError or ValueError of anything else."""
        kept = [
            (float(confidence), int(place), str(png), [str(line) for line in lines])
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


def _png(pixels: NDArray[np.uint8]) -> str:
    image = pixels.transpose(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(content, "PNG")
    return b64encode(content.getvalue()).decode()


#: What is kept of it in the run's directory.
TESTED = "test_images.json"


def keep_test_images(directory: Path, logits: NDArray[np.float32] | None = None) -> None:
    """Write down what the model that a run kept says of the test images, where there are some.

    ``logits``, (n, C), are its answers; without them it is asked once more.
    """
    config = json.loads((directory / "config.json").read_text("utf-8"))
    configuration = RunConfiguration.parse(mapping(config.get("configuration")))
    data_set = configuration.data_set
    if not (directory / "model").is_dir() or not data_set.has("test"):
        return
    data = data_set.load("test")
    if logits is None:
        logits = _asked(directory, configuration.device, data)
    place, names, wrong = data_set.places("test"), data.class_names, WrongImages()
    labels, answers = np.asarray(data.labels), logits.argmax(axis=1)
    for row in map(int, np.flatnonzero(answers != labels)):
        said = f"{names[labels[row]]}, answered {names[answers[row]]}"
        where = place(row).removeprefix(f"{configuration.data_dir}/")
        share = 1 / np.exp(logits[row] - logits[row].max()).sum()  # softmax of the largest
        wrong.add(said, where, float(share), data.images[row])
    sites = {
        name: Outcomes.counted(logits[rows], labels[rows]).as_json(brief=True)
        for name, rows in data_set.test_sites().items()
    }
    content = {"wrong": asdict(wrong), "sites": sites}
    write_whole(directory / TESTED, json.dumps(content, indent=1) + "\n")


def _asked(directory: Path, device: str, data: ImageData) -> NDArray[np.float32]:
    from fedf2dg.use.trained_model import BATCH, load_model  # who reads a report needs no PyTorch

    model, starts = load_model(directory, device), range(0, len(data), BATCH)
    parts = (model.normalized(data.images[start : start + BATCH]) for start in starts)
    return np.concatenate([model.logits(part).numpy() for part in parts])


def read_test_images(directory: Path, names: Sequence[str]) -> tuple[Table | None, list[Section]]:
    """Return a table of the sites' test images, and the section of wrong ones; often neither."""
    try:
        content = mapping(json.loads((directory / TESTED).read_text("utf-8")))
        wrong = WrongImages.read(content["wrong"])
        told = {name: Outcomes.read(of) for name, of in mapping(content["sites"]).items()}
    except (OSError, KeyError, TypeError, ValueError):
        return None, []
    sites = {name: outcomes for name, outcomes in told.items() if outcomes is not None}
    table = sites_table(Evidence(sites=sites, on_sites="test images"), names)
    return table if sites else None, wrong.section(MOST // 2)
