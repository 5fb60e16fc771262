"""The tables of a comparison, each once, for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedf2dg.report.figures import byte_unit
from fedf2dg.report.tables import Cell, html_table
from foundation.wording import NONE, duration

from .results import KEPT, LAST, OTHER, TIMES, CellResult, Measure, Results
from .statistics import Difference, Spread, t_factor

# More classes do not fit into a table that can be read.
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Table:
    """A table with its headline and what a reader must know about it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def html(self) -> str:
        """Return the table alone as HTML."""
        return html_table(self.header, self.rows, label=self.title)

    def markdown(self) -> str:
        """Return the table alone as Markdown."""
        first, *others = self.rows[0] if self.rows else [Cell("")] * len(self.header)
        rule = ["---:" if "number" in cell.kind else "---" for cell in (first, *others)]
        lines = [self.header, rule, *([cell.content for cell in row] for row in self.rows)]
        return "\n".join("| " + " | ".join(_escaped(c) for c in line) + " |" for line in lines)


def tables(results: Results) -> list[Table]:
    """Return every table that has something to say."""
    made = [
        accuracy_table(results),
        difference_table(results),
        gain_table(results),
        best_on_test_table(results),
        recall_table(results),
        cost_table(results),
        settings_table(results),
        cell_table(results),
    ]
    return [table for table in made if table.rows]


def accuracy_table(results: Results) -> Table:
    """Last-round and last-epoch accuracies: the result."""
    rows = [
        [
            Cell(method.name),
            Cell(str(len(results.of(method))), "number"),
            *(Cell(_share(results.spread(method, _last(s))), "number") for s in results.compared),
        ]
        for method in results.plan.methods
    ]
    return Table(
        "Test accuracy",
        ["method", "seeds", *results.compared],
        rows,
        [
            "Mean ± standard deviation over seeds of the accuracy after the last round or epoch of "
            "each stage. Nothing is selected on the test set.",
            *_column_notes(results),
        ],
    )


def difference_table(results: Results) -> Table:
    """Paired differences against the baseline."""
    rows = []
    counts = set()
    for method in results.plan.methods:
        found = {stage: results.difference(method, stage) for stage in results.compared}
        counts |= {difference.count for difference in found.values() if difference}
        other = results.baseline(method)
        if other is not None:
            rows.append(
                [
                    Cell(method.name),
                    Cell(other.name),
                    *(_difference(difference) for difference in found.values()),
                ]
            )
    return Table(
        "Paired differences",
        ["method", "baseline", *results.compared],
        rows,
        [
            "Accuracy less the baseline's under the same seed (same partition, same initial "
            "weights), in percentage points: mean over seeds and 95 % confidence interval. "
            "Coloured where the interval excludes zero.",
            *interval_notes(counts),
        ],
    )


def gain_table(results: Results) -> Table:
    """What the post-training stages add to the same run's federated model."""
    stages = [stage for stage in results.compared if stage != "federated"]
    rows = [
        [Cell(method.name), *(_difference(results.gain(method, stage)) for stage in stages)]
        for method in results.plan.methods
    ]
    return Table(
        "Gain over the federated model",
        ["method", *stages],
        rows if stages else [],
        [
            "Accuracy after a stage less that of the same run's federated model, in percentage "
            "points: mean over seeds and 95 % confidence interval."
        ],
    )


def best_on_test_table(results: Results) -> Table:
    """Accuracies selected on the test set, as papers report them."""
    rows = []
    for method in results.plan.methods:
        row = [Cell(method.name)]
        for stage in results.reached:
            row.append(Cell(_share(results.spread(method, _best(stage))), "number"))
            row.append(Cell(_points(results.spread(method, _optimism(stage))), "number"))
        rows.append(row)
    header = ["method"]
    for stage in results.reached:
        header += [f"{stage}, best on test", "over last"]
    return Table(
        "Best on test",
        header,
        rows,
        [
            "The highest accuracy met on the way, chosen on the test set itself, and by how many "
            "percentage points it exceeds the last one. It serves comparison with papers that "
            "report it, not as a result."
        ],
    )


def recall_table(results: Results) -> Table:
    """How much of each class is found, before and after what came after training."""
    names: Sequence[str] = next((r.class_names for r in results.cells if r.class_names), ())
    rows = []
    for method in results.plan.methods:
        found = [r.recall for r in results.of(method) if len(r.recall) == 2]
        if found and len(names) <= _MOST_CLASSES:
            before, after = (
                [sum(column) / len(found) for column in zip(*(f[s] for f in found), strict=True)]
                for s in ("federated", LAST)
            )
            cells = zip(before, after, strict=True)
            rows.append(
                [
                    Cell(method.name),
                    *(Cell(f"{100 * b:.0f} → {100 * a:.0f}", "number") for b, a in cells),
                ]
            )
    return Table(
        "Recall of each class",
        ["method", *names],
        rows,
        [
            "Share of each class's test images that is found, in %, federated → after the last "
            "stage: means over seeds."
        ],
    )


def cost_table(results: Results) -> Table:
    """Seconds, bytes and images per run, and what the clients gave."""
    largest = max([r.bytes_down or 0.0 for r in results.cells] + [1.0])
    size, unit = byte_unit(largest)

    def part(name: str) -> Measure:
        return lambda result: result.seconds.get(name)

    parts = [
        part
        for part in (*TIMES, OTHER)
        if part != OTHER or any(r.seconds.get(OTHER) is not None for r in results.cells)
    ]
    rows = []
    for method in results.plan.methods:
        down = results.spread(method, lambda result: result.bytes_down)
        up = results.spread(method, lambda result: result.bytes_up)
        images = results.spread(method, lambda result: result.images)
        rows.append(
            [
                Cell(method.name),
                *(Cell(_duration(results.spread(method, part(n))), "number") for n in parts),
                Cell(_duration(results.spread(method, lambda r: r.total_seconds)), "number"),
                Cell(NONE if down is None else f"{down.mean / size:,.1f}", "number"),
                Cell(NONE if up is None else f"{up.mean / size:,.1f}", "number"),
                Cell(_gave(results.of(method))),
                Cell(NONE if images is None else f"{images.mean:,.0f}", "number"),
            ]
        )
    return Table(
        "Cost of a run",
        [
            "method",
            *parts,
            "sum",
            f"{unit} to clients",
            f"{unit} from clients",
            "what clients gave beside models",
            "pseudo images",
        ],
        rows,
        [
            "Means over seeds. Stages that cells share were computed once, and count in full for "
            "each. Times depend on what else the machine did, other cells included."
        ],
    )


def _gave(done: Sequence[CellResult]) -> str:
    """Say what left the clients beside models, and how many bytes of it."""
    kinds = dict.fromkeys(kind for result in done for kind in result.gave)
    said = []
    for kind in kinds:
        mean = sum(result.gave.get(kind, 0.0) for result in done) / len(done)
        size, unit = byte_unit(mean)
        said.append(f"{kind} {mean / size:,.{1 if size > 1 else 0}f} {unit}")
    return ", ".join(said) or NONE


def settings_table(results: Results) -> Table:
    """In which keys the methods differ."""
    varied = results.plan.varied()
    rows = []
    for method in results.plan.methods:
        settings = results.plan.of(method)[0].configuration.flat()
        rows.append([Cell(method.name), *(Cell(str(settings[name])) for name in varied)])
    return Table("What the methods set", ["method", *varied], rows if varied else [])


def cell_table(results: Results) -> Table:
    """Every cell."""
    rows = [
        [
            Cell(result.cell.method.name),
            Cell(str(result.cell.seed), "number"),
            *(Cell(_one(result.last.get(stage)), "number") for stage in results.compared),
            Cell(duration(result.total_seconds), "number"),
            Cell(result.status if result.reason else f"runs/{result.directory.name}", "any"),
        ]
        for result in results.cells
    ]
    return Table("Cells", ["method", "seed", *results.compared, "time", "directory"], rows)


def _column_notes(results: Results) -> list[str]:
    notes = {
        LAST: "“last” is the accuracy after whatever stage of a method came last.",
        KEPT: "“kept” is that of the model which the clients kept, judging on images that they "
        "hold out.",
    }
    return [note for column, note in notes.items() if column in results.compared]


def interval_notes(counts: set[int]) -> list[str]:
    """Say what intervals from so few seeds are worth."""
    if not counts:
        return []
    fewest = min(counts)
    if fewest == 1:
        return [
            "One seed: no interval can be given, and a difference may be chance alone. Use at "
            "least 3 seeds."
        ]
    notes = [
        "Student's paired t: mean ± t·s/√n, which takes differences to be normally distributed; "
        "not corrected for the number of comparisons."
    ]
    if fewest <= 3:
        notes.insert(
            0,
            f"Only {fewest} common seeds in some rows: t is {t_factor(fewest):.1f} there (2.0 "
            "with many), and the standard deviation is itself hardly known. An interval that "
            "includes zero means undecided, not equal.",
        )
    return notes


def _last(stage: str) -> Measure:
    return lambda result: result.last.get(stage)


def _best(stage: str) -> Measure:
    return lambda result: result.best.get(stage)


def _optimism(stage: str) -> Measure:
    def over_last(result: CellResult) -> float | None:
        best, last = result.best.get(stage), result.last.get(stage)
        return None if best is None or last is None else best - last

    return over_last


def _one(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.2f} %"


def _share(found: Spread | None) -> str:
    if found is None:
        return NONE
    if found.deviation is None:
        return f"{100 * found.mean:.2f} %"
    return f"{100 * found.mean:.2f} ± {100 * found.deviation:.2f} %"


def _points(found: Spread | None) -> str:
    return NONE if found is None else f"{100 * found.mean:+.2f}"


def _duration(found: Spread | None) -> str:
    return NONE if found is None else duration(found.mean)


def _difference(found: Difference | None) -> Cell:
    if found is None:
        return Cell(NONE, "number")
    shown = f"{100 * found.mean:+.2f}"
    if found.low is not None and found.high is not None:
        shown += f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    kind = "number" if not found.clear else "number gain" if found.mean > 0 else "number loss"
    return Cell(shown, kind)


def _escaped(content: str) -> str:
    return content.replace("|", r"\|").replace("\n", " ")
