"""What the cells of a comparison reached: one row each, and their statistics."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configuration import Value
from reporting import RunRecord
from reporting.run_record import STAGES, Measurement, mapping, number

from .plan import Cell, Method, Plan
from .statistics import Difference, Spread, paired_difference, spread

#: The reason of a cell whose turn has not come.
PENDING = "not made yet"
#: The accuracy after a run's last stage, whichever that is.
FINAL = "final"
#: Parts of a run's time, as summary.json names them.
TIMES = ("federated", "generation", "distillation", "competition")


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
    last, best : Mapping[str, float | None]
        Accuracy in [0, 1] after each stage: of the last round or epoch, and the highest met on
        the test set. ``last`` also holds the final one, after whatever stage came last.
    seconds : Mapping[str, float | None]
        By part; shared parts count in full for each cell.
    bytes_down, bytes_up : float, optional
        From the server to the clients and back, all rounds and clients together.
    images : float, optional
        Pseudo images made.
    measurements : Sequence[Measurement]
        Every accuracy on the way.
    """

    cell: Cell
    directory: Path
    reason: str = ""
    last: Mapping[str, float | None] = field(default_factory=dict)
    best: Mapping[str, float | None] = field(default_factory=dict)
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    bytes_down: float | None = None
    bytes_up: float | None = None
    images: float | None = None
    measurements: Sequence[Measurement] = ()

    @property
    def status(self) -> str:
        """One word: completed, failed or pending."""
        if not self.reason:
            return "completed"
        return "pending" if self.reason == PENDING else "failed"

    @property
    def total_seconds(self) -> float | None:
        """The time of all parts."""
        known = [value for value in self.seconds.values() if value is not None]
        return sum(known) if known else None

    @property
    def final_stage(self) -> str | None:
        """The last stage that has an accuracy."""
        ran = [stage for stage in STAGES if self.last.get(stage) is not None]
        return ran[-1] if ran else None

    def gain(self, stage: str) -> float | None:
        """Return the accuracy after a stage over that of the federated model."""
        after, before = self.last.get(stage), self.last.get("federated")
        return None if after is None or before is None else after - before


def read_cell(cell: Cell, directory: Path) -> CellResult:
    """Read the result of a finished cell from its run directory."""
    record = RunRecord.read(directory)
    summary = record.summary
    accuracy, best = mapping(summary.get("accuracy")), mapping(summary.get("best_on_test"))
    seconds = mapping(summary.get("seconds"))
    rounds = record.of_kind("round")
    last = {stage: number(accuracy.get(stage)) for stage in STAGES}
    ran = [value for value in last.values() if value is not None]
    return CellResult(
        cell,
        directory,
        last={**last, FINAL: ran[-1] if ran else None},
        best={stage: number(best.get(stage)) for stage in STAGES},
        seconds={part: number(seconds.get(part)) for part in TIMES},
        bytes_down=sum(number(event.get("bytes_down")) or 0.0 for event in rounds),
        bytes_up=sum(number(event.get("bytes_up")) or 0.0 for event in rounds),
        images=number(mapping(summary.get("generation")).get("images")),
        measurements=tuple(record.measurements()),
    )


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
        """The cells that were tried and have no result."""
        return [result for result in self.cells if result.status == "failed"]

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
        """The stages, and the final result where methods end with different stages."""
        ends = {result.final_stage for result in self.cells if not result.reason}
        return [*self.reached, FINAL] if len(ends) > 1 else self.reached

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
    header = [
        "method",
        *varied,
        "seed",
        "status",
        *(f"accuracy_{stage}" for stage in STAGES),
        *(f"best_on_test_{stage}" for stage in STAGES),
        *(f"gain_{stage}" for stage in STAGES[1:]),
        *(f"seconds_{part}" for part in TIMES),
        "seconds_sum",
        "bytes_down",
        "bytes_up",
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
                *(result.last.get(stage) for stage in STAGES),
                *(result.best.get(stage) for stage in STAGES),
                *(result.gain(stage) for stage in STAGES[1:]),
                *(result.seconds.get(part) for part in TIMES),
                result.total_seconds,
                result.bytes_down,
                result.bytes_up,
                result.images,
                f"runs/{result.directory.name}",
                result.reason,
            ]
        )
    return content.getvalue()
