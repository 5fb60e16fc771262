"""A comparison's tables, each once, and its page and Markdown made of them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from fedf2dg.report import RunRecord
from fedf2dg.report.document import Cell, Document, Facts, Note, Picture, Row, Section, Table
from fedf2dg.report.figures import MOST_LINES, Dot, curves, dots, to_svg
from fedf2dg.report.report import keys_section
from fedf2dg.report.run_record import Measurement
from fedf2dg.report.tables import byte_unit, size_in_words
from foundation import counted
from foundation.wording import NONE, duration

from .plan import Method
from .results import KEPT, LAST, OTHER, OVER_OWN, TIMES, CellResult, Mean, Results, t_factor

# More classes do not fit into a table that can be read.
_MOST_CLASSES = 20
_OVER_OWN = "over own models"
#: The last section, which a terminal is spared.
CELLS = "Cells"


def document(results: Results) -> Document:
    """Return the comparison as a document."""
    data = sorted({result.cell.configuration.dataset for result in results.cells})
    methods, seeds = results.plan.methods, ", ".join(str(seed) for seed in results.seeds)
    done = sum(not result.reason for result in results.cells)
    facts = {
        "data set": ", ".join(data),
        counted(len(methods), "method"): "",
        "seed" if len(results.seeds) == 1 else "seeds": seeds,
        f"{done} of {counted(len(results.cells), 'cell')} completed": "",
    }
    opening = [Note(_lead(results), "lead"), Facts(facts), *_warnings(results)]
    settings = results.cells[0].cell.configuration.flat()
    aside = {*results.plan.varied(), "seed", "output-dir", "resume-from"}
    common = {name: value for name, value in settings.items() if name not in aside}
    if results.plan.note:
        opening.append(Note(results.plan.note))
    return Document(
        results.plan.title or f"{counted(len(methods), 'method')} on {', '.join(data)}",
        opening,
        [
            *sections(results),
            keys_section("Settings of all cells", common),
            Section("Set-up", [Note(_setup(results))]),
        ],
    )


def sections(results: Results) -> list[Section]:
    """Return a section for every table that has something to say, with its notes and pictures."""
    makers = (
        accuracy_section,
        difference_section,
        gain_section,
        best_on_test_section,
        recall_section,
        cost_section,
        settings_section,
        cell_section,
    )
    return [section for make in makers for section in make(results)]


def accuracy_section(results: Results) -> list[Section]:
    """Last-round and last-epoch accuracies: the result."""
    beside = [_OVER_OWN] if results.has(OVER_OWN) else []
    rows = [
        [
            method.name,
            str(len(results.of(method))),
            *(_share(results.mean(method, f"accuracy_{stage}")) for stage in results.compared),
            *(_difference(results.mean(method, OVER_OWN)) for _ in beside),
        ]
        for method in results.plan.methods
    ]
    notes = {
        "": "Mean ± standard deviation over seeds of the accuracy after the last round or epoch of "
        "each stage. Nothing is selected on the test set.",
        LAST: "“last” is the accuracy after whatever stage of a method came last.",
        KEPT: "“kept” is that of the model which the clients kept, judging on images that they "
        "hold out.",
        _OVER_OWN: f"“{_OVER_OWN}” is what joining gained the sites over models that they trained "
        "alone, on the images that they hold out: percentage points and 95 % confidence interval.",
    }
    columns = [*results.compared, *beside]
    said = (note for column, note in notes.items() if column in ("", *columns))
    table = Table("Test accuracy", ["method", "seeds", *columns], rows)
    return table.section(*said, *_accuracies(results), *_curves(results))


def difference_section(results: Results) -> list[Section]:
    """Paired differences against the baseline."""
    found = {
        method.name: {stage: results.difference(method, stage) for stage in results.compared}
        for method in results.plan.methods
        if results.baseline(method)
    }
    rows = [
        [name, results.plan.baselines[name], *map(_difference, of_method.values())]
        for name, of_method in found.items()
    ]
    counts = {d.count for of_method in found.values() for d in of_method.values() if d}
    notes = [
        "Accuracy less the baseline's under the same seed (same partition, same initial "
        "weights), in percentage points: mean over seeds and 95 % confidence interval. "
        "Coloured where the interval excludes zero.",
        *interval_notes(counts),
    ]
    table = Table("Paired differences", ["method", "baseline", *results.compared], rows, (0, 1))
    known = {
        name: {stage: d for stage, d in of_method.items() if d} for name, of_method in found.items()
    }
    return table.section(*notes, *_differences(results, known))


def gain_section(results: Results) -> list[Section]:
    """What the post-training stages add to the same run's federated model."""
    stages = [s for s in results.compared if s != "federated" and results.has(f"gain_{s}")]
    rows = [
        [method.name, *(_difference(results.mean(method, f"gain_{stage}")) for stage in stages)]
        for method in results.plan.methods
        if stages
    ]
    note = (
        "Accuracy after a stage less that of the same run's federated model, in percentage "
        "points: mean over seeds and 95 % confidence interval."
    )
    return Table("Gain over the federated model", ["method", *stages], rows).section(note)


def best_on_test_section(results: Results) -> list[Section]:
    """Accuracies selected on the test set, as papers report them."""
    rows, header = [], ["method"]
    stages = [stage for stage in results.reached if results.has(f"best_on_test_{stage}")]
    for stage in stages:
        header += [f"{stage}, best on test", "over last"]
    for method in results.plan.methods:
        row: list[str | None] = [method.name]
        for stage in stages:
            best, last = f"best_on_test_{stage}", f"accuracy_{stage}"
            over = [
                high - end
                for result in results.of(method)
                if (high := result.figures.get(best)) is not None
                and (end := result.figures.get(last)) is not None
            ]
            mean = Mean.of(over)
            row += [_share(results.mean(method, best)), f"{100 * mean.mean:+.2f}" if mean else None]
        rows.append(row)
    note = (
        "The highest accuracy met on the way, chosen on the test set itself, and by how many "
        "percentage points it exceeds the last one. It serves comparison with papers that "
        "report it, not as a result."
    )
    return Table("Best on test", header, rows if stages else []).section(note)


def recall_section(results: Results) -> list[Section]:
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
            pairs = zip(before, after, strict=True)
            rows.append([method.name, *(f"{100 * b:.0f} → {100 * a:.0f}" for b, a in pairs)])
    note = (
        "Share of each class's test images that is found, in %, federated → after the last "
        "stage: means over seeds."
    )
    return Table("Recall of each class", ["method", *names], rows).section(note)


def cost_section(results: Results) -> list[Section]:
    """Seconds, bytes and images per run, and what the clients gave."""
    size, unit = byte_unit(max([r.figures.get("bytes_down") or 0.0 for r in results.cells] + [1.0]))
    others = any(r.figures.get(f"seconds_{OTHER}") is not None for r in results.cells)
    parts = [*TIMES, *([OTHER] if others else [])]

    def mean(method: Method, column: str, form: Callable[[float], str]) -> str | None:
        found = results.mean(method, column)
        return None if found is None else form(found.mean)

    rows = [
        [
            method.name,
            *(mean(method, f"seconds_{part}", duration) for part in (*parts, "sum")),
            mean(method, "bytes_down", lambda value: f"{value / size:,.1f}"),
            mean(method, "bytes_up", lambda value: f"{value / size:,.1f}"),
            _gave(results.of(method)),
            mean(method, "images", lambda value: f"{value:,.0f}"),
        ]
        for method in results.plan.methods
    ]
    header = ["method", *parts, "sum", f"{unit} to clients", f"{unit} from clients"]
    header += ["what clients gave beside models", "pseudo images"]
    note = (
        "Means over seeds. Stages that cells share were computed once, and count in full for "
        "each. Times depend on what else the machine did, other cells included."
    )
    return Table("Cost of a run", header, rows, words=(0, -2)).without_empty().section(note)


def _gave(done: Sequence[CellResult]) -> str:
    """Say what left the clients beside models, and how many bytes of it."""
    kinds = dict.fromkeys(kind for result in done for kind in result.gave)
    return (
        ", ".join(
            f"{kind} {size_in_words(sum(r.gave.get(kind, 0.0) for r in done) / len(done))}"
            for kind in kinds
        )
        or NONE
    )


def settings_section(results: Results) -> list[Section]:
    """In which keys the methods differ."""
    varied = results.plan.varied()
    rows = []
    for method in results.plan.methods:
        settings = results.plan.of(method)[0].configuration.flat()
        rows.append([method.name, *(str(settings[name]) for name in varied)])
    header = ["method", *varied]
    words = range(len(header))
    return Table("What the methods set", header, rows if varied else [], words).section()


def cell_section(results: Results) -> list[Section]:
    """Every cell."""
    rows: list[Row] = [
        [
            result.cell.method.name,
            str(result.cell.seed),
            *(
                None if (share := result.accuracy(stage)) is None else f"{100 * share:.2f} %"
                for stage in results.compared
            ),
            duration(result.figures.get("seconds_sum")),
            Cell(result.status if result.reason else f"runs/{result.directory.name}", "any"),
        ]
        for result in results.cells
    ]
    header = ["method", "seed", *results.compared, "time", "directory"]
    return Table(CELLS, header, rows, words=(0, -1)).section()


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


def _share(found: Mean | None) -> str | None:
    if found is None:
        return None
    if found.deviation is None:
        return f"{100 * found.mean:.2f} %"
    return f"{100 * found.mean:.2f} ± {100 * found.deviation:.2f} %"


def _difference(found: Mean | None) -> Cell | None:
    if found is None:
        return None
    shown, reach = f"{100 * found.mean:+.2f}", found.reach
    if reach is not None:
        shown += f" [{100 * (found.mean - reach):+.2f}, {100 * (found.mean + reach):+.2f}]"
    return Cell(shown, "" if not found.clear else "gain" if found.mean > 0 else "loss")


def _lead(results: Results) -> str:
    means = ((results.mean(m, f"accuracy_{LAST}"), m.name) for m in results.plan.methods)
    known = [(found, name) for found, name in means if found]
    if not known:
        return "No cell has a result yet."
    best, name = max(known, key=lambda one: one[0].mean)
    width = "" if best.deviation is None else f" ± {100 * best.deviation:.1f}"
    return f"Highest mean at the end: {name}, {100 * best.mean:.1f}{width} %"


def _warnings(results: Results) -> Iterator[Note]:
    for result in results.failed:
        yield Note(f"No result for {result.cell.name}: {result.reason}", "warning")
    if results.pending:
        missing, cells = len(results.pending), counted(len(results.cells), "cell")
        yield Note(f"Not made yet: {missing} of {cells}.", "warning")


def _setup(results: Results) -> str:
    """Say what the numbers were measured on."""
    for result in results.cells:
        if not result.reason:
            config = json.loads((result.directory / "config.json").read_text("utf-8"))
            versions = RunRecord.read(result.directory).versions
            shown = ", ".join(f"{name} {version}" for name, version in versions.items())
            return f"{config.get('machine', 'machine unknown')}; {config.get('device')}; {shown}."
    return "Nothing was measured."


def _accuracies(results: Results) -> Iterator[Picture]:
    if not results.compared:
        return
    shown: dict[str, dict[str, Dot]] = {}
    for method in results.plan.methods:
        for stage in results.compared:
            found = results.mean(method, f"accuracy_{stage}")
            single = [100 * value for value in results.values(method, f"accuracy_{stage}")]
            if found is not None:
                reach = None if found.deviation is None else 100 * found.deviation
                dot = Dot(100 * found.mean, reach, single)
                shown.setdefault(method.name, {})[stage] = dot
    svg = to_svg(
        dots(shown, "test accuracy", differences=False),
        "accuracies",
        "Dot plot of the accuracies in the table above, by method and stage.",
    )
    caption = (
        "Marker and bar: mean ± standard deviation over seeds. Ticks: the seeds. Last round or "
        "epoch of each stage."
    )
    yield Picture(svg, caption)


def _differences(results: Results, found: Mapping[str, Mapping[str, Mean]]) -> Iterator[Picture]:
    # A stage that all methods share with their baseline differs in nothing.
    same = [s for s in results.compared if all(_nothing(d[s]) for d in found.values() if s in d)]

    def dot(d: Mean) -> Dot:
        return Dot(100 * d.mean, None if d.reach is None else 100 * d.reach, filled=d.clear)

    shown = {
        name: {stage: dot(d) for stage, d in of_method.items() if stage not in same}
        for name, of_method in found.items()
        if set(of_method) - set(same)
    }
    if not shown:
        return
    svg = to_svg(
        dots(shown, "difference of test accuracy, percentage points", differences=True),
        "differences",
        "Dot plot of the differences from the baseline in the table above.",
    )
    left_out = f" Not shown, since equal everywhere: {', '.join(same)}." if same else ""
    caption = (
        "Difference from the baseline, mean over seeds with 95 % confidence interval; filled "
        "markers: the interval excludes zero." + left_out
    )
    yield Picture(svg, caption)


def _nothing(difference: Mean) -> bool:
    return difference.mean == 0 and not difference.deviation


def _curves(results: Results) -> Iterator[Picture]:
    methods = [m for m in results.plan.methods if any(r.measurements for r in results.of(m))]
    for number, group in enumerate(_groups(results, methods)):
        lines: dict[str, list[list[Measurement]]] = {
            method.name: [list(result.measurements) for result in results.of(method)]
            for method in group
        }
        svg = to_svg(
            curves(lines),
            f"curves-{number}",
            f"Line charts of test accuracy over the run for {', '.join(lines)}.",
        )
        caption = (
            "Accuracy of the global model on the test set, mean over seeds; the band is ± one "
            "standard deviation. Each stage has its own axis."
        )
        yield Picture(svg, caption)


def _groups(results: Results, methods: list[Method]) -> Iterator[list[Method]]:
    """Split methods into plots of few lines, each with the baseline where there is one only."""
    if len(methods) <= MOST_LINES:
        if methods:
            yield methods
        return
    names = set(results.plan.baselines.values())
    first = [m for m in methods if m.name in names] if len(names) == 1 else []
    others = [m for m in methods if m not in first]
    size = MOST_LINES - len(first)
    for start in range(0, len(others), size):
        yield first + others[start : start + size]
