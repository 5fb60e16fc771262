"""What the cells of a comparison reached: one row of figures each, and their statistics."""

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import stats

from fedf2dg.report import RunRecord
from fedf2dg.report.judgements import own_models_in
from fedf2dg.report.run_record import STAGES, Measurement, mapping, number
from foundation.events.family import ImagesMade

from .plan import Cell, Method, Plan

CONFIDENCE = 0.95
#: The reason of a cell whose turn has not come.
PENDING = "not made yet"
#: The accuracy after a run's last stage, whichever that is.
LAST = "last"
#: That of the model which the run kept.
KEPT = "kept"
#: Parts of a run's time, as summary.json names them; a method's own part counts as "other".
TIMES = ("federated", "generation", "distillation", "competition", "judgement")
OTHER = "other"
_ENDS = (*STAGES, LAST, KEPT)
#: What the model kept gained over the sites' own, on the images that they hold out.
OVER_OWN = "gain_over_own_models"
#: A cell's figures, as comparison.csv names its columns: accuracies and gains as fractions of 1.
COLUMNS = (
    *(f"accuracy_{stage}" for stage in _ENDS),
    *(f"best_on_test_{stage}" for stage in STAGES),
    *(f"gain_{stage}" for stage in _ENDS[1:]),
    OVER_OWN,
    *(f"seconds_{part}" for part in (*TIMES, OTHER, "sum")),
    "bytes_down",
    "bytes_up",
)
_GAVE = "bytes_up_"
#: What else comparison.csv says of a cell (:attr:`CellResult.marks`).
MARKS = ("division", "weights", "versions")
# What summary.json calls the model that a run kept.
_SELECTED = "selected"

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Mean:
    """The mean of some values, of accuracies or of their differences under the same seeds.

    ``deviation`` is that of a sample (n - 1 in the denominator); a single value has none.
    """

    count: int
    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """Return the mean of values; None of nothing."""
        if not values:
            return None
        array = np.asarray(values, dtype=np.float64)
        deviation = float(array.std(ddof=1)) if len(array) > 1 else None
        return cls(len(array), float(array.mean()), deviation)

    @property
    def reach(self) -> float | None:
        """Half the 95 % interval, t(0.95, n - 1) · s / √n (Student 1908)."""
        if self.deviation is None:
            return None
        return t_factor(self.count) * self.deviation / math.sqrt(self.count)

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero; never of two values, which can agree by chance."""
        return self.reach is not None and self.count > 2 and abs(self.mean) > self.reach


def t_factor(count: int) -> float:
    """Return the two-sided 95 % quantile of Student's t for ``count`` values (n - 1 degrees)."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1))


@dataclass(frozen=True)
class CellResult:
    """What one cell reached, or the reason why it has no result.

    ``figures`` are by :data:`COLUMNS`, ``images`` (pseudo images made) and ``bytes_up_KIND`` of
    what left the clients beside models. Accuracies are those of a stage's last round or epoch, or
    the highest met on the test set (``best_on_test``). Shared parts of the time count in full for
    each cell, bytes for all clients together. ``recall`` is the share of each class's test images
    that is found, federated (``"federated"``) and after the last stage (``LAST``). ``marks``,
    by :data:`MARKS`, tell whether another run had the same beginning and end: digests of which
    client holds which image and of the kept model, and the versions.
    """

    cell: Cell
    directory: Path
    reason: str = ""
    refused: bool = False
    figures: Figures = field(default_factory=dict)
    final_stage: str | None = None
    judged: bool = False
    recall: Mapping[str, Sequence[float]] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    measurements: Sequence[Measurement] = ()

    @property
    def status(self) -> str:
        """One word: completed, refused, failed or pending."""
        if not self.reason:
            return "completed"
        if self.refused:
            return "refused"
        return "pending" if self.reason == PENDING else "failed"

    @property
    def gave(self) -> dict[str, float]:
        """What left the clients beside models: bytes by kind."""
        return {
            name.removeprefix(_GAVE): size
            for name, size in self.figures.items()
            if name.startswith(_GAVE) and size
        }

    def accuracy(self, stage: str) -> float | None:
        """Return the accuracy after a stage, in [0, 1]."""
        return self.figures.get(f"accuracy_{stage}")


def read_cell(cell: Cell, directory: Path) -> CellResult:
    """Read the result of a finished cell from its run directory."""
    record = RunRecord.read(directory)
    summary = record.summary
    accuracy, best = mapping(summary.get("accuracy")), mapping(summary.get("best_on_test"))
    ran = [s for s, value in accuracy.items() if s != _SELECTED and number(value) is not None]
    final = ran[-1] if ran else None
    reached = {stage: number(accuracy.get(stage)) for stage in STAGES}
    reached |= {LAST: number(accuracy.get(final or "")), KEPT: number(accuracy.get(_SELECTED))}
    figures: dict[str, float | None] = {f"accuracy_{s}": v for s, v in reached.items()}
    figures |= {f"best_on_test_{stage}": number(best.get(stage)) for stage in STAGES}
    figures |= gains(reached)
    if (own := own_models_in(summary)) and own.gain:
        figures[OVER_OWN] = own.gain.value
    figures |= _seconds(mapping(summary.get("seconds")))
    traffic = {kind: mapping(sizes) for kind, sizes in mapping(summary.get("traffic")).items()}
    for way in ("bytes_down", "bytes_up"):
        figures[way] = sum(number(sizes.get(way)) or 0.0 for sizes in traffic.values())
    for kind, sizes in traffic.items():
        if kind != "model" and (size := number(sizes.get("bytes_up"))):
            figures[f"{_GAVE}{kind}"] = size
    made = [event.images or 0.0 for event in record.of(ImagesMade)]
    figures["images"] = sum(made) if made else None
    return CellResult(
        cell,
        directory,
        figures=figures,
        final_stage=final,
        judged=bool(summary.get("judged")),
        recall=_recalls(record, final),
        class_names=record.class_names,
        marks=_marks(record),
        measurements=tuple(record.measurements()),
    )


def _marks(record: RunRecord) -> dict[str, str]:
    files = ("partition.npy", "model/model.safetensors")
    found = {}
    for name, file in zip(MARKS, files, strict=False):
        with suppress(FileNotFoundError), (record.directory / file).open("rb") as content:
            found[name] = hashlib.file_digest(content, "sha256").hexdigest()[:16]
    found[MARKS[-1]] = "; ".join(f"{name} {of}" for name, of in record.versions.items())
    return found


def gains(reached: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the accuracy after each stage over that of the same run's federated model."""
    before = reached.get(STAGES[0])
    return {
        f"gain_{stage}": None if after is None or before is None else after - before
        for stage, after in reached.items()
        if stage != STAGES[0]
    }


def _seconds(found: Mapping[str, Any]) -> dict[str, float | None]:
    parts = {part: number(found.get(part)) for part in TIMES}
    others = [number(v) or 0.0 for part, v in found.items() if part not in (*TIMES, "total")]
    parts[OTHER] = sum(others) if others else None
    known = [value for value in parts.values() if value is not None]
    parts["sum"] = sum(known) if known else None
    return {f"seconds_{part}": value for part, value in parts.items()}


def _recalls(record: RunRecord, final: str | None) -> dict[str, list[float]]:
    found = {}
    for name, stage in (("federated", "federated"), (LAST, final)):
        matrix = record.confusion(stage) if stage else None
        if matrix is not None:
            found[name] = [row[c] / max(sum(row), 1.0) for c, row in enumerate(matrix)]
    return found


@dataclass(frozen=True)
class Results:
    """All cells of a plan, finished, failed or not made yet."""

    plan: Plan
    cells: tuple[CellResult, ...]

    def of(self, method: Method) -> list[CellResult]:
        """Return a method's finished cells, by seed."""
        return [r for r in self.cells if r.cell.method == method and not r.reason]

    @property
    def failed(self) -> list[CellResult]:
        """The cells that were tried, or refused, and have no result."""
        return [result for result in self.cells if result.status in ("failed", "refused")]

    @property
    def pending(self) -> list[CellResult]:
        """The cells that were not tried yet."""
        return [result for result in self.cells if result.status == "pending"]

    @property
    def seeds(self) -> list[int]:
        """All seeds of the plan."""
        return sorted({result.cell.seed for result in self.cells})

    @property
    def reached(self) -> list[str]:
        """The stages that some finished cell ran."""
        return [s for s in STAGES if any(r.accuracy(s) is not None for r in self.cells)]

    @property
    def compared(self) -> list[str]:
        """The stages; the last one where methods end with different ones; what was kept."""
        done = [result for result in self.cells if not result.reason]
        ends = {result.final_stage for result in done}
        found = list(self.reached)
        if len(ends) > 1 or not ends <= {*STAGES, None}:
            found.append(LAST)
        if any(result.judged for result in done):
            found.append(KEPT)
        return found

    def has(self, column: str) -> bool:
        """Tell whether a figure is known of any finished cell."""
        return any(self.values(method, column) for method in self.plan.methods)

    def values(self, method: Method, column: str) -> list[float]:
        """Return a figure of a method's cells, where it is known."""
        found = [result.figures.get(column) for result in self.of(method)]
        return [value for value in found if value is not None]

    def mean(self, method: Method, column: str) -> Mean | None:
        """Return the mean of a figure over a method's seeds."""
        return Mean.of(self.values(method, column))

    def baseline(self, method: Method) -> Method | None:
        """Return the method a method is compared with."""
        name = self.plan.baselines.get(method.name)
        return next((m for m in self.plan.methods if m.name == name), None)

    def difference(self, method: Method, stage: str) -> Mean | None:
        """Return a method's last accuracy after a stage less its baseline's, paired by seed."""
        other = self.baseline(method)
        if other is None:
            return None
        mine, theirs = (
            {r.cell.seed: v for r in self.of(m) if (v := r.accuracy(stage)) is not None}
            for m in (method, other)
        )
        return Mean.of([mine[seed] - theirs[seed] for seed in mine if seed in theirs])


def to_csv(results: Results) -> str:
    """Return one row per cell; empty where a figure is not known."""
    varied = results.plan.varied()
    kinds = sorted({kind for result in results.cells for kind in result.gave})
    figures = [*COLUMNS, *(f"{_GAVE}{kind}" for kind in kinds), "images"]
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    names = [name.replace(" ", "_") for name in figures]
    writer.writerow(["method", *varied, "seed", "status", *names, *MARKS, "directory", "reason"])
    for result in results.cells:
        settings = result.cell.configuration.flat()
        writer.writerow(
            [
                result.cell.method.name,
                *(settings[name] for name in varied),
                result.cell.seed,
                result.status,
                *(result.figures.get(name) for name in figures),
                *(result.marks.get(name) for name in MARKS),
                f"runs/{result.directory.name}",
                result.reason,
            ]
        )
    return content.getvalue()
