"""What a run's diagnosis found, where there is one: see ``fedf2dg diagnose``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fedf2dg.report.page import paragraph, section
from fedf2dg.report.run_record import RunRecord, mapping, number
from fedf2dg.report.tables import Cell, html_table, percent

#: The file in a run's directory.
FILE = "diagnosis.json"
_TITLE = "What could be gained"
_NOTE = (
    "Accuracy on the server's test images with one thing in place of what a data-free method has. "
    "Rows marked “simulation only” use the clients' own images, which no server of real sites has: "
    "they say where a method's limit lies, and are no result."
)


def diagnosis_section(record: RunRecord) -> str:
    """Return the report's part on the diagnosis; empty where there is none."""
    try:
        found = json.loads((record.directory / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    rows = table_rows(mapping(found).get("ceilings"))
    if not rows:
        return ""
    cells = [[Cell(part), Cell(what), Cell(accuracy, "number")] for part, what, accuracy in rows]
    table = html_table(["part", "with", "accuracy"], cells, label=_TITLE)
    return section(_TITLE, table, paragraph(_NOTE, "note"))


def table_rows(ceilings: Any) -> list[tuple[str, str, str]]:
    """Return part, description and accuracy of each ceiling, in words.

    Parameters
    ----------
    ceilings : list of Mapping
        As ``diagnosis.json`` holds them; what is none is left out.
    """
    entries: Sequence[Any] = ceilings if isinstance(ceilings, list) else []
    return [
        (
            str(entry.get("part", "")),
            str(entry.get("what", ""))
            + (" (simulation only)" if entry.get("simulation_only") else ""),
            percent(number(entry.get("accuracy"))),
        )
        for entry in entries
        if isinstance(entry, Mapping)
    ]
