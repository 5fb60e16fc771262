"""``fedf2dg evaluate``: what a model does on labelled folders, as figures and as a page."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedf2dg.report.document import Document, Facts, Note, Section
from fedf2dg.report.judgements import gains_table, meaning, own_models_in, plain
from fedf2dg.report.run_record import json_in, mapping
from fedf2dg.report.tested_images import WrongImages
from fedf2dg.report.verdict import Evidence, details, figures_table, lines, opening
from foundation import counted, write_whole
from foundation.data import DataError
from foundation.data.collection import SPLIT_NAMES
from foundation.data.sources.class_folders import UnknownClass
from foundation.data.sources.folder import holds_sites, own_files
from foundation.data.sources.parquet import parquet_files
from foundation.data.sources.walk import folders_in
from foundation.events.family import OwnModels
from foundation.scores import Outcomes, as_table
from foundation.wording import listed

from .trained_model import TrainedModel

#: The files that are written.
PAGE, FIGURES = "evaluation.html", "evaluation.json"
# More single scores than these are put into bins before the area under the curve is taken.
_MOST_SCORES = 5_000_000


@dataclass
class Evaluation:
    """What a model says of labelled folders: of all, of each, what was wrong, and not read.

    ``flattered`` says which of them the model was trained on.
    """

    whole: Outcomes
    folders: dict[str, Outcomes]
    wrong: WrongImages
    unread: int
    flattered: str = ""

    @property
    def evidence(self) -> Evidence:
        """All folders together, and each where there are several."""
        several, on = self.folders if len(self.folders) > 1 else {}, "labelled images"
        return Evidence(self.whole, on, several, on_sites=on)


def evaluate(
    model: TrainedModel,
    folders: Sequence[Path],
    warn: Callable[[str], None],
    trained_on: Path | None = None,
) -> Evaluation:
    """Have a model classify the images of folders that are laid out as training reads them.

    Each is a folder of class folders (below ``test``, where it has one), a parquet file, or a
    folder of sites, each of which counts by itself. ``warn`` gets a line for all that is not
    counted: images that could not be read, and those for training beside a ``test``; and one if
    folders lie in what the model was ``trained_on``. A folder without labelled images, or with
    other classes than the model's, is a ``DataError``.
    """
    wrong, unread, known = WrongImages(), 0, list[str]()
    answered: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
    for place in _places(folders, model.classes):
        try:
            files = own_files(place, model.classes)
        except UnknownClass as error:
            raise DataError(
                f"{error.problem} of the model: move it elsewhere, or call it as the model does"
            ) from error
        split = "test" if "test" in files.splits else "train"
        if len(files.splits) > 1:
            warn(f"{place}: its test images are counted, and those for training are not")
        own = split == "test" or place.name.lower() in SPLIT_NAMES["test"]
        if trained_on is not None and not own and place.resolve().is_relative_to(trained_on):
            known.append(place.name)
        records = files.records(split)
        logits, labels = [], []
        for row, (image, answer) in enumerate(model.answers(records.images())):
            if isinstance(answer, DataError):
                unread += 1
                warn(f"{'' if isinstance(image, Path) else f'{records.where(row)}: '}{answer}")
                continue
            truth = int(records.labels[row])
            logits.append(answer.logits)
            labels.append(truth)
            shares = answer.logits.softmax(dim=0)
            if (named := int(shares.argmax())) != truth:
                said = f"{model.classes[truth]}, answered {model.classes[named]}"
                pixels = model.seen(answer.pixels)
                wrong.add(said, records.where(row), float(shares[named]), pixels)
        if not labels:
            raise DataError(f"{place}: no image could be read")
        name = place.name if place.name not in answered else str(place)
        answered[name] = (torch.stack(logits).numpy(), np.array(labels))
    if not answered:
        raise DataError("no folder holds labelled images")
    flattered = ""
    if known:
        flattered = f"the model was trained on images of {listed(known)}: the figures flatter it"
        warn(flattered)
    of_each = {name: _counted(*found) for name, found in answered.items()}
    every = (np.concatenate(part) for part in zip(*answered.values(), strict=True))
    return Evaluation(_counted(*every), of_each, wrong, unread, flattered)


def _counted(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Outcomes:
    return Outcomes.counted(logits, labels, exact=logits.size <= _MOST_SCORES)


def _places(folders: Sequence[Path], classes: Sequence[str]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_dir() and holds_sites(folder, classes):
            yield from sorted([*folders_in(folder), *parquet_files(folder)])
        else:
            yield folder


def own_models_of(run: Path) -> OwnModels | None:
    """Return how the model did beside the sites' own; None where its run is not at hand."""
    return own_models_in(json_in(run / "summary.json"))


def images_of(run: Path) -> Path | None:
    """Return where a run's own images lie, if it is at hand and says so."""
    given = mapping(json_in(run / "config.json").get("configuration")).get("data-dir")
    return Path(str(given)).expanduser().resolve() if given else None


def write_evaluation(
    model: TrainedModel, found: Evaluation, directory: Path, run: Path, site: str = ""
) -> Path:
    """Write the figures (JSON) and the page into a directory, and return the page.

    ``run`` is where the model comes from, whose summary may tell more of it. With a ``site``, whose
    own part the model has, both files bear its name, so that they replace no other model's.
    """
    names = model.classes
    told = {name: as_table(outcomes, names) for name, outcomes in found.folders.items()}
    content: dict[str, Any] = {"site": site} if site else {}
    content |= {"classes": list(names), "all": as_table(found.whole, names), "folders": told}
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / of_site(FIGURES, site), json.dumps(content, indent=1) + "\n")
    facts = Facts({"folders": ", ".join(found.folders), "not read": str(found.unread)})
    whose = f", as site {site} uses it," if site else ""
    title = f"A classifier of {counted(len(names), 'class', 'classes')}{whose} on labelled images"
    parts = [*details(found.evidence, names), *found.wrong.section()]
    first = [Note(f"{found.flattered[:1].upper()}{found.flattered[1:]}.", "warning")]
    opened = [*(first if found.flattered else ()), *opening(found.evidence, names), facts]
    if (own := own_models_of(run)) is not None:
        note = f"In the run that the model comes from, on other images. {meaning(own)}"
        table = gains_table(own)
        parts.insert(0, Section(table.title, [table, Note(note, "note")]))
    page = directory / of_site(PAGE, site)
    write_whole(page, Document(title, opened, parts).html())
    return page


def of_site(file: str, site: str) -> str:
    """Return a file's name with that of a site, or of its folder, in it; "a.json", "a-north.json".

    Names that differ in signs that a file's cannot have are told apart by a digest.
    """
    path, safe = Path(file), re.sub(r"[^\w.-]+", "-", site).strip("-.")[-80:]
    if safe != site:
        safe = f"{safe}-{hashlib.sha256(site.encode()).hexdigest()[:6]}"
    return f"{path.stem}-{safe}{path.suffix}" if site else file


def said(model: TrainedModel, found: Evaluation, run: Path, site: str = "") -> list[str]:
    """Return the verdict and the figures as a terminal shows them."""
    evidence, own = found.evidence, own_models_of(run)
    told = [f"The model as site {site} uses it:"] if site else []
    told += [*lines(evidence, model.classes), figures_table(evidence).terminal()]
    if own is not None:
        told += ["What joining gained in its run:", gains_table(own).terminal()]
    return [plain(line) for line in told]
