"""``fedf2dg evaluate``: what a model does on labelled folders, as figures and as a page."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fedf2dg.report.document import Document, Facts, Gallery, Note, Section
from fedf2dg.report.judgements import plain
from fedf2dg.report.own_models import gains_table, meaning, own_models_in
from fedf2dg.report.run_record import mapping
from fedf2dg.report.verdict import (
    Evidence,
    details,
    figures_table,
    lines,
    opening,
)
from foundation import counted, write_whole
from foundation.data import DataError
from foundation.data.sources.folder import holds_sites
from foundation.data.sources.own_files import own_files
from foundation.data.sources.walk import folders_in
from foundation.events.family import OwnModels
from foundation.scores import Outcomes, as_table

from .trained_model import BATCH, TrainedModel

#: The files that are written.
PAGE, FIGURES = "evaluation.html", "evaluation.json"
_MOST_WRONG = 48


@dataclass(frozen=True)
class Wrong:
    """An image that was taken for another class, with its pixels as the model sees them."""

    where: str
    truth: str
    answer: str
    confidence: float
    pixels: Tensor

    def picture(self) -> tuple[bytes, list[str]]:
        """Return it as PNG with what to say of it."""
        image = (self.pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        content = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(content, "PNG")
        said = f"{self.truth}, answered {self.answer} ({100 * self.confidence:.0f} %)"
        return content.getvalue(), [said, self.where]


@dataclass
class Evaluation:
    """What a model says of labelled folders: of each, what was wrong, and what was not read."""

    outcomes: dict[str, Outcomes]
    wrong: list[Wrong]
    unread: int = 0

    @property
    def evidence(self) -> Evidence:
        """All folders together, and each where there are several."""
        several = self.outcomes if len(self.outcomes) > 1 else {}
        whole, on = Outcomes.sum(list(self.outcomes.values())), "labelled images"
        return Evidence(whole, on, several, on_sites=on)


def evaluate(
    model: TrainedModel, folders: Sequence[Path], warn: Callable[[str], None]
) -> Evaluation:
    """Have a model classify the images of folders that are laid out as training reads them.

    Each is a folder of class folders (below ``test``, where it has one), a parquet file, or a
    folder of sites, each of which counts by itself. ``warn`` gets a line for all that is not
    counted: images that could not be read, and those for training beside a ``test``. A folder
    without labelled images, or with other classes than the model's, is a ``DataError``.
    """
    found = Evaluation({}, [])
    for place in _places(folders, model.classes):
        files = own_files(place, model.classes)
        split = "test" if "test" in files.splits else "train"
        if len(files.splits) > 1:
            warn(f"{place}: its test images are counted, and those for training are not")
        records = files.records(split)
        images = enumerate(records.images())
        logits: list[Tensor] = []
        labels: list[int] = []
        while batch := list(islice(images, BATCH)):
            read: list[tuple[int, Tensor]] = []
            for row, image in batch:
                try:
                    read.append((row, model.preprocess(image)))
                except DataError as error:
                    found.unread += 1
                    warn(str(error))
            if read:
                answers = model.logits(torch.stack([pixels for _, pixels in read]))
                truth = [int(records.labels[row]) for row, _ in read]
                logits.append(answers)
                labels += truth
                where = [records.where(row) for row, _ in read]
                pixels = [pixels for _, pixels in read]
                found.wrong += _wrong(model, where, pixels, answers, truth)
        if not labels:
            raise DataError(f"{place}: no image could be read")
        name = place.name if place.name not in found.outcomes else str(place)
        found.outcomes[name] = Outcomes.counted(torch.cat(logits).numpy(), np.array(labels))
    found.wrong = sorted(found.wrong, key=lambda one: -one.confidence)[:_MOST_WRONG]
    return found


def _places(folders: Sequence[Path], classes: Sequence[str]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_dir() and holds_sites(folder, classes):
            yield from folders_in(folder)
        else:
            yield folder


def _wrong(
    model: TrainedModel,
    where: Sequence[str],
    pixels: Sequence[Tensor],
    answers: Tensor,
    truth: Sequence[int],
) -> Iterator[Wrong]:
    shares = answers.softmax(dim=1)
    for row, label in enumerate(truth):
        answer = int(shares[row].argmax())
        if answer != label:
            names = model.classes[label], model.classes[answer]
            seen = model.seen(pixels[row])
            yield Wrong(where[row], *names, float(shares[row, answer]), seen)


def own_models_of(run: Path) -> OwnModels | None:
    """Return how the model did beside the sites' own; None where its run is not at hand."""
    try:
        return own_models_in(mapping(json.loads((run / "summary.json").read_bytes())))
    except (OSError, ValueError):
        return None


def write_evaluation(model: TrainedModel, found: Evaluation, directory: Path, run: Path) -> Path:
    """Write the figures (JSON) and the page into a directory, and return the page.

    ``run`` is where the model comes from, whose summary may tell more of it.
    """
    names, evidence = model.classes, found.evidence
    assert evidence.whole is not None, "an evaluation has a folder"
    told = {name: as_table(outcomes, names) for name, outcomes in found.outcomes.items()}
    content = {"classes": list(names), "all": as_table(evidence.whole, names), "folders": told}
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / FIGURES, json.dumps(content, indent=1) + "\n")
    facts = Facts({"folders": ", ".join(found.outcomes), "not read": str(found.unread)})
    first = [*opening(evidence, names), facts]
    wrong = evidence.whole.images - evidence.whole.right
    parts = list(details(evidence, names))
    if (own := own_models_of(run)) is not None:
        note = f"In the run that the model comes from, on other images. {meaning(own)}"
        table = gains_table(own)
        parts.insert(0, Section(table.title, [table, Note(note, "note")]))
    if found.wrong:
        said = f"{counted(wrong, 'image')} taken for another class, as the model sees them"
        said += "" if wrong <= _MOST_WRONG else f"; the {_MOST_WRONG} it is surest of"
        gallery = Gallery([one.picture() for one in found.wrong])
        parts.append(Section("What it gets wrong", [Note(f"{said}."), gallery], long=True))
    title = f"A classifier of {counted(len(names), 'class', 'classes')} on labelled images"
    page = directory / PAGE
    write_whole(page, Document(title, first, parts).html())
    return page


def said(model: TrainedModel, found: Evaluation, run: Path) -> list[str]:
    """Return the verdict and the figures as a terminal shows them."""
    evidence, own = found.evidence, own_models_of(run)
    told = [*lines(evidence, model.classes), figures_table(evidence).terminal()]
    if own is not None:
        told += ["What joining gained in its run:", gains_table(own).terminal()]
    return [plain(line) for line in told]
