"""Tables of results, for a page and for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedf2dg.report.page import paragraph, text
from fedf2dg.report.run_record import STAGES, mapping, number
from foundation.intervals import difference_interval, share_interval
from foundation.wording import NONE, duration

#: Rows of a table that a page shows.
MOST_ROWS = 50
#: What stands for the accuracy of a stage that ran and that nobody measured.
NOT_MEASURED = "not measured"
#: What whoever measured measured on.
MEASURED_ON = {
    "server": "test images of the server",
    "clients": "held-out images of the clients",
}


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    content : str
        Plain text.
    kind : str
        CSS classes of the page's style ("number", "gain", ...).
    """

    content: str
    kind: str = ""


@dataclass(frozen=True)
class Stage:
    """What one stage of a run reached.

    Attributes
    ----------
    name : str
        "federated", "distilled", "competed", or a stage of another post-training method.
    accuracy, best_on_test : float | None
        In [0, 1]; None if the stage did not run.
    gain : float | None
        Accuracy over that of the federated model, in percentage points.
    seconds : float | None
        Spent in the stage.
    parts : str
        What the seconds consist of.
    by : str
        Who measured the accuracy: "server", "clients", "nobody"; empty if the stage did not run, or
        if the run does not say.
    images : int
        On how many images.
    also_chose : bool
        Whether these images also chose the model of several.
    """

    name: str
    accuracy: float | None
    best_on_test: float | None
    gain: float | None
    seconds: float | None
    parts: str = ""
    by: str = ""
    images: int = 0
    also_chose: bool = False

    @property
    def ran(self) -> bool:
        """Whether the run has had this stage."""
        return self.accuracy is not None or bool(self.by) or self.seconds is not None

    @property
    def said(self) -> str:
        """The accuracy in words."""
        return NOT_MEASURED if self.by == "nobody" else percent(self.accuracy)


def stages(summary: Mapping[str, Any]) -> list[Stage]:
    """Return the stages of a run from its summary, whatever of it is missing or null."""
    accuracy, best = mapping(summary.get("accuracy")), mapping(summary.get("best_on_test"))
    seconds, measured = mapping(summary.get("seconds")), mapping(summary.get("measured"))
    spent = {name: number(value) for name, value in seconds.items()}
    method = {name: spent.get(name) for name in ("generation", "distillation")}
    known = {name: value for name, value in method.items() if value is not None}
    time = {
        "federated": spent.get("federated"),
        "distilled": sum(known.values()) if known else None,
        "competed": spent.get("competition"),
    }
    base = number(accuracy.get("federated"))
    found = []
    for name in [*accuracy, *(name for name in STAGES if name not in accuracy)]:
        reached = number(accuracy.get(name))
        gain = None
        if name != "federated" and reached is not None and base is not None:
            gain = 100 * (reached - base)
        parts = ", ".join(f"{part} {duration(value)}" for part, value in known.items())
        who = mapping(measured.get(name))
        found.append(
            Stage(
                name,
                reached,
                number(best.get(name)),
                gain,
                time.get(name, spent.get(name)),
                parts if name == "distilled" and len(known) > 1 else "",
                str(who.get("by", "")),
                int(number(who.get("images")) or 0),
                who.get("also_chose") is True,
            )
        )
    return found


def measured_sentence(summary: Mapping[str, Any]) -> str:
    """Say who measured the accuracies of a run on how many images; empty if that is not known."""
    found: dict[tuple[str, int, bool], list[str]] = {}
    for stage in stages(summary):
        if stage.by:
            key = (stage.by, stage.images, stage.also_chose)
            found.setdefault(key, []).append(stage.name)

    def said(by: str, images: int, also_chose: bool) -> str:
        if by not in MEASURED_ON:
            return NOT_MEASURED
        flatters = " that also chose the model, which flatters it" if also_chose else ""
        return f"measured on {images:,} {MEASURED_ON[by]}{flatters}"

    if len(found) == 1:
        return f"Accuracy: {said(*next(iter(found)))}"
    return "; ".join(f"{', '.join(which)}: {said(*who)}" for who, which in found.items())


def _shown(summary: Mapping[str, Any]) -> list[Stage]:
    """Return the stages that a table has a row for: those that ran, and the federated one."""
    return [stage for stage in stages(summary) if stage.ran or stage.name == STAGES[0]]


def terminal_table(summary: Mapping[str, Any]) -> str:
    """Return the table printed at the end of a run.

    Parameters
    ----------
    summary : Mapping
        The content of ``summary.json``; anything in it may be missing or null.

    Returns
    -------
    str
        Lines of plain ASCII without a trailing line end: accuracy per stage, its gain over the
        federated model, seconds, and who measured.
    """
    rows = [["stage", "accuracy", "gain", "seconds", ""]]
    for stage in _shown(summary):
        rows.append(
            [
                stage.name,
                stage.said.replace(NONE, "-"),
                "" if stage.name == "federated" else points(stage.gain).replace(NONE, "-"),
                "-" if stage.seconds is None else f"{stage.seconds:.1f}",
                f"({stage.parts})" if stage.parts else "",
            ]
        )
    total = number(mapping(summary.get("seconds")).get("total"))
    rows.append(["total", "", "", "-" if total is None else f"{total:.1f}", ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(len(line) for line in lines)
    said = measured_sentence(summary)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *([said] if said else [])])


def stage_table(summary: Mapping[str, Any]) -> str:
    """Return the table of a run's stages as HTML, with 95 % intervals where images were counted."""
    rows, found = [], _shown(summary)
    base = next((stage for stage in found if stage.name == "federated"), None)
    for stage in found:
        kind, share, change = "number", "", ""
        if stage.accuracy is not None and stage.images:
            share = _ends(share_interval(stage.accuracy, stage.images), "%")
            if stage.gain is not None and base is not None and base.accuracy is not None:
                low, high = difference_interval(stage.accuracy, base.accuracy, stage.images)
                change = _ends((low, high), "points")
                kind += " gain" if low > 0 else " loss" if high < 0 else ""
        rows.append(
            [
                Cell(stage.name),
                Cell(stage.said, "number big"),
                Cell(share, "number soft"),
                Cell("" if stage.name == "federated" else points(stage.gain), kind),
                Cell(change, "number soft"),
                Cell(percent(stage.best_on_test), "number"),
                Cell(duration(stage.seconds), "number"),
            ]
        )
    total = number(mapping(summary.get("seconds")).get("total"))
    return html_table(
        [
            "stage",
            "accuracy",
            "95 % interval",
            "gain over federated",
            "95 % interval at most",
            "best on test",
            "time",
        ],
        rows,
        footer=[Cell("whole run"), *[Cell("")] * 5, Cell(duration(total), "number")],
        label="Accuracy and time of each stage",
    )


def _ends(interval: tuple[float, float], unit: str) -> str:
    low, high = (100 * end for end in interval)
    signed = "+" if unit == "points" else ""
    return f"{low:{signed}.1f} to {high:{signed}.1f} {unit}"


def html_table(
    header: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    footer: Sequence[Cell] = (),
    label: str = "",
) -> str:
    """Return a table as HTML whose first column names the rows.

    Parameters
    ----------
    header : Sequence[str]
        Names of the columns; none for a table of names and values.
    rows : Iterable[Sequence[Cell]]
        The cells.
    footer : Sequence[Cell] (default: none)
        A last row of sums.
    label : str (default: none)
        What a screen reader calls the table.
    """
    body = [list(row) for row in rows]
    kinds = [cell.kind for cell in body[0]] if body else [""] * len(header)
    lines = [f'<div class="scroll" tabindex="0"><table aria-label="{text(label)}">']
    if header:
        names = (
            f'<th scope="col"{" class=number" if "number" in kind else ""}>{text(name)}</th>'
            for name, kind in zip(header, kinds, strict=True)
        )
        lines.append(f"<thead><tr>{''.join(names)}</tr></thead>")
    lines.append("<tbody>")
    lines += [_row(row) for row in body]
    lines.append("</tbody>")
    if footer:
        lines.append(f"<tfoot>{_row(footer)}</tfoot>")
    lines.append("</table></div>")
    return "\n".join(lines)


def left_out(count: int, file: str) -> str:
    """Say how many rows of a long table are not shown."""
    if count <= MOST_ROWS:
        return ""
    return paragraph(f"{count - MOST_ROWS} more rows stand in {file}.", "note")


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal: "81.0 %"."""
    return NONE if share is None else f"{100 * share:.1f} %"


def points(gain: float | None) -> str:
    """Return a difference in percentage points with its sign: "+12.0 points"."""
    return NONE if gain is None else f"{gain:+.1f} points"


def _row(cells: Sequence[Cell]) -> str:
    """Return a row as HTML, its first cell as the row's header."""
    first, *others = cells
    kind = f' class="{first.kind}"' if first.kind else ""
    row = f'<tr><th scope="row"{kind}>{text(first.content)}</th>'
    for cell in others:
        kind = f' class="{cell.kind}"' if cell.kind else ""
        row += f"<td{kind}>{text(cell.content)}</td>"
    return row + "</tr>"
