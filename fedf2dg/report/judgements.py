"""What the clients judged of each stage, and what each model does on each client's images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedf2dg.report.page import paragraph, section
from fedf2dg.report.run_record import RunRecord, mapping, number
from fedf2dg.report.tables import MOST_ROWS, Cell, html_table, left_out, percent
from foundation.intervals import Z

_TITLE = "What the clients judged"
_NOTE = (
    "Every client evaluates the model kept so far, the stage's result and three models between "
    "them on images that it holds out: nothing was trained, counted or inverted on these. λ says "
    "how far towards the result the kept model lies. In the verdict, ± is half the 95 % interval "
    "of the difference, image by image. The server's test set has no part in it."
)


def verdicts(summary: Mapping[str, Any]) -> list[str]:
    """Return what was judged of each stage, in words; none where nobody judged."""
    found = mapping(summary.get("judged")).get("verdicts")
    rows = found if isinstance(found, list) else []
    return [str(sentence) for row in rows if (sentence := mapping(row).get("sentence"))]


def plain(sentence: str) -> str:
    """Return a sentence in ASCII, for terminals that know nothing else."""
    return sentence.replace("±", "+-").replace("λ", "lambda")


def judgement_section(record: RunRecord) -> str:
    """Return the report's part on the judgements; empty where there was none."""
    events = record.of_kind("judgement")
    if not events:
        return ""
    rows = []
    for event in events:
        gain, error = number(event.get("gain")), number(event.get("standard_error"))
        uncertain = "" if error is None else f" ± {100 * Z * error:.1f}"
        rows.append(
            [
                Cell(str(event.get("stage"))),
                Cell("" if gain is None else f"{100 * gain:+.1f}{uncertain} points", "number"),
                Cell(f"{event.get('images', '?')}", "number"),
                Cell(f"{event.get('sentence', '')!s}", "any"),
            ]
        )
    header = ["stage", "gain and 95 % interval", "held-out images", "verdict"]
    table = html_table(header, rows, label="Judgements of the clients")
    return section(_TITLE, table, paragraph(_NOTE, "note"))


def clients_table(record: RunRecord) -> str:
    """Return what each client has and what each model does on its images; empty if unknown."""
    shares: dict[Any, dict[str, float | None]] = {}
    facts: dict[Any, Mapping[str, Any]] = {}
    columns: list[str] = []

    def note(row: Mapping[str, Any], column: str, value: Any) -> None:
        client = row.get("client", row.get("name"))
        facts.setdefault(client, row)
        if column not in columns:
            columns.append(column)
        shares.setdefault(client, {}).setdefault(column, number(value))

    for event in record.of_kind("judgement"):
        for row in _rows(event.get("clients")):
            note(row, str(event.get("before")), row.get("before"))
            note(row, str(event.get("stage")), row.get("stage"))
    for event in record.of_kind("evaluation"):
        for row in _rows(mapping(event.get("on_clients")).get("clients")):
            note(row, str(event.get("stage")), row.get("accuracy"))
    for event in record.of_kind("judgement")[-1:]:
        for row in _rows(event.get("clients")):
            note(row, "kept", row.get("kept"))
    names, examples = record.client_names(), record.examples_per_client()
    found = [
        [
            Cell(_name(client, row, names)),
            Cell(_at(examples, client), "number"),
            Cell(f"{row.get('images', '?')}", "number"),
            *(Cell(percent(shares[client].get(column)), "number") for column in columns),
        ]
        for client, row in facts.items()
    ]
    if not found:
        return ""
    header = ["client", "training images", "held-out images", *columns]
    return html_table(
        header, found[:MOST_ROWS], label="Accuracy on each client's held-out images"
    ) + left_out(len(found), "summary.json")


def _rows(found: Any) -> list[Mapping[str, Any]]:
    return [mapping(row) for row in found] if isinstance(found, list) else []


def _name(client: Any, row: Mapping[str, Any], names: Sequence[str]) -> str:
    if isinstance(client, int) and client < len(names):
        return names[client]
    return str(row.get("name", client))


def _at(values: Sequence[float], place: Any) -> str:
    known = isinstance(place, int) and place < len(values)
    return f"{values[place]:,.0f}" if known else ""
