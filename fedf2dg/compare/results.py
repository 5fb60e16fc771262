"""What the cells of a comparison reached: one row each, and their statistics."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedf2dg.report import RunRecord
from fedf2dg.report.run_record import STAGES, Measurement, mapping, number
from foundation.settings.configuration import Value

from .plan import Cell, Method, Plan
from .statistics import Difference, Spread, paired_difference, spread

#: The reason of a cell whose turn has not come.
PENDING = "not made yet"
#: The accuracy after a run's last stage, whichever that is.
LAST = "last"
#: That of the model which the run kept.
KEPT = "kept"
#: Parts of a run's time, as summary.json names them; a method's own part counts as "other".
TIMES = ("federated", "generation", "distillation", "competition", "judgement")
OTHER = "other"
# What summary.json calls the model that a run kept, and the parts of its time that are not others.
_SELECTED = "selected"
_COUNTED = (*TIMES, "total")


@dataclass(frozen=True)
class CellResult:
    """What one cell reached.

    Parameters
    ----------
    cell : Cell
        Which.
    directory : Path
        Its run directory.
    reason : str
        Why it has no result; empty if it has.
    refused : bool
        Whether that is because what it asks for cannot be done.
    last, best : Mapping[str, float | None]
        Accuracy in [0, 1] after each stage: of the last round or epoch, and the highest met on
        the test set. ``last`` also holds ``LAST``, after whatever stage came last, and ``KEPT``.
    final_stage : str, optional
        Name of the last stage that has an accuracy.
    judged : bool
        Whether clients judged what to keep.
    seconds : Mapping[str, float | None]
        By part; shared parts count in full for each cell.
    bytes_down, bytes_up : float, optional
        From the server to the clients and back, the whole run and all clients together.
    gave : Mapping[str, float]
        What left the clients beside models: bytes by kind.
    recall : Mapping[str, Sequence[float]]
        Share of each class's test images that is found, federated (``"federated"``) and after the
        last stage (``LAST``); empty where the server has no test set.
    class_names : Sequence[str]
        Of these classes.
    images : float, optional
        Pseudo images made.
    measurements : Sequence[Measurement]
        Every accuracy on the way.
    """

    cell: Cell
    directory: Path
    reason: str = ""
    refused: bool = False
    last: Mapping[str, float | None] = field(default_factory=dict)
    best: Mapping[str, float | None] = field(default_factory=dict)
    final_stage: str | None = None
    judged: bool = False
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    bytes_down: float | None = None
    bytes_up: float | None = None
    gave: Mapping[str, float] = field(default_factory=dict)
    recall: Mapping[str, Sequence[float]] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    images: float | None = None
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
    def total_seconds(self) -> float | None:
        """The time of all parts."""
        known = [value for value in self.seconds.values() if value is not None]
        return sum(known) if known else None

    def gain(self, stage: str) -> float | None:
        """Return the accuracy after a stage over that of the federated model."""
        after, before = self.last.get(stage), self.last.get("federated")
        return None if after is None or before is None else after - before


def read_cell(cell: Cell, directory: Path) -> CellResult:
    """Read the result of a finished cell from its run directory."""
    record = RunRecord.read(directory)
    summary = record.summary
    accuracy, best = mapping(summary.get("accuracy")), mapping(summary.get("best_on_test"))
    found = mapping(summary.get("seconds"))
    traffic = {kind: mapping(counted) for kind, counted in mapping(summary.get("traffic")).items()}
    ran = [s for s, value in accuracy.items() if s != _SELECTED and number(value) is not None]
    final = ran[-1] if ran else None
    last = {stage: number(accuracy.get(stage)) for stage in STAGES}
    last[LAST] = number(accuracy.get(final)) if final else None
    last[KEPT] = number(accuracy.get(_SELECTED))
    seconds = {part: number(found.get(part)) for part in TIMES}
    others = [number(value) or 0.0 for part, value in found.items() if part not in _COUNTED]
    seconds[OTHER] = sum(others) if others else None
    return CellResult(
        cell,
        directory,
        last=last,
        best={stage: number(best.get(stage)) for stage in STAGES},
        final_stage=final,
        judged=bool(summary.get("judged")),
        seconds=seconds,
        bytes_down=_bytes(traffic, "bytes_down"),
        bytes_up=_bytes(traffic, "bytes_up"),
        gave={
            kind: size
            for kind, counted in traffic.items()
            if kind != "model" and (size := number(counted.get("bytes_up")))
        },
        recall=_recalls(record, final),
        class_names=record.class_names,
        images=_images(record),
        measurements=tuple(record.measurements()),
    )


def _bytes(traffic: Mapping[str, Mapping[str, Any]], way: str) -> float:
    return sum(number(counted.get(way)) or 0.0 for counted in traffic.values())


def _images(record: RunRecord) -> float | None:
    """Return how many pseudo images were made, by whatever method."""
    made = [number(event.get("images")) or 0.0 for event in record.of_kind("generation")]
    return sum(made) if made else None


def _recalls(record: RunRecord, final: str | None) -> dict[str, list[float]]:
    found = {}
    for name, stage in (("federated", "federated"), (LAST, final)):
        matrix = record.confusion(stage) if stage else None
        if matrix is not None:
            found[name] = [row[c] / max(sum(row), 1.0) for c, row in enumerate(matrix)]
    return found


Measure = Callable[[CellResult], float | None]


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
        return [s for s in STAGES if any(r.last.get(s) is not None for r in self.cells)]

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

    def spread(self, method: Method, measure: Measure) -> Spread | None:
        """Return mean and standard deviation of a measure over a method's seeds."""
        values = [measure(result) for result in self.of(method)]
        return spread([value for value in values if value is not None])

    def baseline(self, method: Method) -> Method | None:
        """Return the method a method is compared with."""
        name = self.plan.baselines.get(method.name)
        return next((m for m in self.plan.methods if m.name == name), None)

    def difference(self, method: Method, stage: str) -> Difference | None:
        """Return a method's last accuracy after a stage less its baseline's, paired by seed."""
        other = self.baseline(method)
        if other is None:
            return None
        mine = {r.cell.seed: r.last.get(stage) for r in self.of(method)}
        theirs = {r.cell.seed: r.last.get(stage) for r in self.of(other)}
        pairs = [
            (value, theirs[seed])
            for seed, value in mine.items()
            if value is not None and theirs.get(seed) is not None
        ]
        return paired_difference([a for a, _ in pairs], [float(b or 0.0) for _, b in pairs])

    def gain(self, method: Method, stage: str) -> Difference | None:
        """Return the accuracy after a stage less that of the same run's federated model."""
        gains = [result.gain(stage) for result in self.of(method)]
        known = [gain for gain in gains if gain is not None]
        return paired_difference(known, [0.0] * len(known))


def to_csv(results: Results) -> str:
    """Return one row per cell; accuracies and gains as fractions of 1, empty where not known."""
    varied = results.plan.varied()
    kinds = sorted({kind for result in results.cells for kind in result.gave})
    header = [
        "method",
        *varied,
        "seed",
        "status",
        *(f"accuracy_{stage}" for stage in (*STAGES, LAST, KEPT)),
        *(f"best_on_test_{stage}" for stage in STAGES),
        *(f"gain_{stage}" for stage in (*STAGES[1:], LAST, KEPT)),
        *(f"seconds_{part}" for part in (*TIMES, OTHER)),
        "seconds_sum",
        "bytes_down",
        "bytes_up",
        *(f"bytes_up_{kind.replace(' ', '_')}" for kind in kinds),
        "images",
        "directory",
        "reason",
    ]
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(header)
    for result in results.cells:
        settings: Mapping[str, Value] = result.cell.configuration.flat()
        writer.writerow(
            [
                result.cell.method.name,
                *(settings[name] for name in varied),
                result.cell.seed,
                result.status,
                *(result.last.get(stage) for stage in (*STAGES, LAST, KEPT)),
                *(result.best.get(stage) for stage in STAGES),
                *(result.gain(stage) for stage in (*STAGES[1:], LAST, KEPT)),
                *(result.seconds.get(part) for part in (*TIMES, OTHER)),
                result.total_seconds,
                result.bytes_down,
                result.bytes_up,
                *(result.gave.get(kind) for kind in kinds),
                result.images,
                f"runs/{result.directory.name}",
                result.reason,
            ]
        )
    return content.getvalue()
