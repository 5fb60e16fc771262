"""What the clients judged: a sentence for each stage, and each client's own accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reporting.page import paragraph, section
from reporting.run_record import RunRecord, mapping, number
from reporting.tables import Cell, html_table, percent

_TITLE = "What the clients judged"
_NOTE = (
    "Every client evaluates the model kept so far, the stage's result and three models between "
    "them on images that it holds out: nothing was trained, counted or inverted on these. λ says "
    "how far towards the result the kept model lies; ± is the standard error of the difference, "
    "image by image. The server's test set has no part in it."
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
    parts = []
    for event in events:
        parts.append(paragraph(f"{event.get('sentence', '')!s}."))
        clients = event.get("clients")
        rows = [_row(mapping(client)) for client in clients] if isinstance(clients, list) else []
        if rows:
            header = ["client", "held-out images", "before", f"{event.get('stage')}", "kept"]
            parts.append(html_table(header, rows, label=f"Judgement of {event.get('stage')}"))
    return section(_TITLE, *parts, paragraph(_NOTE, "note"))


def _row(client: Mapping[str, Any]) -> list[Cell]:
    return [
        Cell(str(client.get("name", client.get("client", "?")))),
        Cell(f"{client.get('images', '?')}", "number"),
        *(Cell(percent(number(client.get(n))), "number") for n in ("before", "stage", "kept")),
    ]
