"""The comparison as a page and as Markdown, from the same tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from fedf2dg.report import RunRecord
from fedf2dg.report.figures import to_svg
from fedf2dg.report.page import figure, page, paragraph, section, text
from fedf2dg.report.run_record import Measurement
from fedf2dg.report.tables import Cell, html_table
from foundation import counted

from . import figures
from .plan import Method
from .results import LAST, Results
from .statistics import Difference
from .tables import Table, accuracy_table, difference_table, tables


def headline(results: Results) -> str:
    """Return the title of a comparison."""
    if results.plan.title:
        return results.plan.title
    data = sorted({result.cell.configuration.dataset for result in results.cells})
    return f"{counted(len(results.plan.methods), 'method')} on {', '.join(data)}"


def to_markdown(results: Results) -> str:
    """Return the comparison as Markdown, without figures."""
    parts = [f"# {headline(results)}", results.plan.note, ", ".join(_facts(results)) + "."]
    parts += [f"**{warning}**" for warning in _warnings(results)]
    for table in tables(results):
        parts += [f"## {table.title}", table.markdown(), *table.notes]
    parts += ["## Set-up", _setup(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_html(results: Results) -> str:
    """Return the comparison as a page that is one file."""
    facts = "".join(f"<li>{text(fact)}</li>" for fact in _facts(results))
    parts = [
        f"<header><h1>{text(headline(results))}</h1>",
        f'<p class="lead">{text(_lead(results))}</p>',
        f'<ul class="facts">{facts}</ul></header>',
        *(paragraph(warning, "warning") for warning in _warnings(results)),
    ]
    if results.plan.note:
        parts.append(paragraph(results.plan.note))
    drawn = {
        accuracy_table(results).title: [*_accuracies(results), *_curves(results)],
        difference_table(results).title: list(_differences(results)),
    }
    for table in tables(results):
        parts.append(_section(table, drawn.get(table.title, [])))
    parts += [_common_settings(results), section("Set-up", paragraph(_setup(results)))]
    return page(headline(results), parts)


def _section(table: Table, drawn: list[str]) -> str:
    notes = [paragraph(note, "note") for note in table.notes]
    return section(table.title, table.html(), *notes, *drawn, long=len(table.rows) > 12)


def _facts(results: Results) -> list[str]:
    done = sum(not result.reason for result in results.cells)
    seeds = ", ".join(str(seed) for seed in results.seeds)
    data = sorted({result.cell.configuration.dataset for result in results.cells})
    return [
        f"data set {', '.join(data)}",
        counted(len(results.plan.methods), "method"),
        f"{'seed' if len(results.seeds) == 1 else 'seeds'} {seeds}",
        f"{done} of {counted(len(results.cells), 'cell')} completed",
    ]


def _lead(results: Results) -> str:
    best: tuple[float, str] | None = None
    for method in results.plan.methods:
        found = results.spread(method, lambda result: result.last.get(LAST))
        if found is not None and (best is None or found.mean > best[0]):
            spread = f" ± {100 * found.deviation:.1f}" if found.deviation is not None else ""
            best = (found.mean, f"{method.name}, {100 * found.mean:.1f}{spread} %")
    return f"Highest mean at the end: {best[1]}" if best else "No cell has a result yet."


def _warnings(results: Results) -> Iterator[str]:
    for result in results.failed:
        yield f"No result for {result.cell.name}: {result.reason}"
    if results.pending:
        yield f"Not made yet: {len(results.pending)} of {counted(len(results.cells), 'cell')}."


def _setup(results: Results) -> str:
    """Say what the numbers were measured on."""
    for result in results.cells:
        if not result.reason:
            config = json.loads((result.directory / "config.json").read_text("utf-8"))
            versions = RunRecord.read(result.directory).versions
            shown = ", ".join(f"{name} {version}" for name, version in versions.items())
            return f"{config.get('machine', 'machine unknown')}; {config.get('device')}; {shown}."
    return "Nothing was measured."


def _accuracies(results: Results) -> Iterator[str]:
    if not results.compared:
        return
    values: dict[str, Mapping[str, list[float]]] = {}
    for method in results.plan.methods:
        values[method.name] = {
            stage: [v for r in results.of(method) if (v := r.last.get(stage)) is not None]
            for stage in results.compared
        }
    svg = to_svg(
        figures.accuracies(values),
        "accuracies",
        "Dot plot of the accuracies in the table above, by method and stage.",
    )
    caption = (
        "Marker and bar: mean ± standard deviation over seeds. Ticks: the seeds. Last round or "
        "epoch of each stage."
    )
    yield figure(svg, caption)


def _differences(results: Results) -> Iterator[str]:
    found: dict[str, dict[str, Difference]] = {}
    for method in results.plan.methods:
        of_method = {s: d for s in results.compared if (d := results.difference(method, s))}
        if of_method:
            found[method.name] = of_method
    # A stage that all methods share with their baseline differs in nothing.
    same = [s for s in results.compared if all(_nothing(d[s]) for d in found.values() if s in d)]
    shown = {
        name: {s: d for s, d in of_method.items() if s not in same}
        for name, of_method in found.items()
    }
    if not any(shown.values()):
        return
    svg = to_svg(
        figures.differences(shown),
        "differences",
        "Dot plot of the differences from the baseline in the table above.",
    )
    left_out = f" Not shown, since equal everywhere: {', '.join(same)}." if same else ""
    caption = (
        "Difference from the baseline, mean over seeds with 95 % confidence interval; filled "
        "markers: the interval excludes zero." + left_out
    )
    yield figure(svg, caption)


def _nothing(difference: Difference) -> bool:
    return difference.mean == 0 and not difference.deviation


def _curves(results: Results) -> Iterator[str]:
    methods = [m for m in results.plan.methods if any(r.measurements for r in results.of(m))]
    for number, group in enumerate(_groups(results, methods)):
        lines: dict[str, list[list[Measurement]]] = {
            method.name: [list(result.measurements) for result in results.of(method)]
            for method in group
        }
        svg = to_svg(
            figures.curves(lines),
            f"curves-{number}",
            f"Line charts of test accuracy over the run for {', '.join(lines)}.",
        )
        caption = (
            "Accuracy of the global model on the test set, mean over seeds; the band is ± one "
            "standard deviation. Each stage has its own axis."
        )
        yield figure(svg, caption)


def _groups(results: Results, methods: list[Method]) -> Iterator[list[Method]]:
    """Split methods into plots of few lines, each with the baseline where there is one only."""
    if len(methods) <= figures.MOST_LINES:
        if methods:
            yield methods
        return
    names = set(results.plan.baselines.values())
    first = [m for m in methods if m.name in names] if len(names) == 1 else []
    others = [m for m in methods if m not in first]
    size = figures.MOST_LINES - len(first)
    for start in range(0, len(others), size):
        yield first + others[start : start + size]


def _common_settings(results: Results) -> str:
    """The keys that are the same in all cells."""
    varied = {*results.plan.varied(), "seed", "output-dir", "resume-from"}
    settings = results.cells[0].cell.configuration.flat()
    rows = [
        [Cell(name), Cell(value if isinstance(value, str) else json.dumps(value))]
        for name, value in settings.items()
        if name not in varied
    ]
    table = html_table([], rows, label="Settings of all cells")
    return section("Settings of all cells", f'<div class="settings">{table}</div>', long=True)
