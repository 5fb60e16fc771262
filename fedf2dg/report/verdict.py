"""A run in two sentences: what was learned from what, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedf2dg.report.guessing import guessing
from fedf2dg.report.run_record import RunRecord, mapping, number
from fedf2dg.report.tables import MEASURED_ON, percent, points, stages
from foundation import counted
from foundation.intervals import Z, difference_interval

_NAMES_SHOWN = 6
_IN_WORDS = {
    "federated": "federated training",
    "calibrated": "calibration",
    "distilled": "distillation",
    "competed": "competition",
}


def title(record: RunRecord) -> str:
    """Say what was learned from what.

    Returns
    -------
    str
        "A classifier of cat, horse and ship, learned from 540 images of 3 clients".
    """
    names, examples = record.class_names, record.examples_per_client()
    what = "A classifier"
    if 2 <= len(names) <= _NAMES_SHOWN:
        what += f" of {', '.join(names[:-1])} and {names[-1]}"
    elif names:
        what += f" of {counted(len(names), 'class', 'classes')}"
    if (dataset := record.summary.get("dataset")) not in (None, "folder", "parquet"):
        what += f" ({dataset})"
    clients = len(examples) or int(number(record.summary.get("clients")) or 0)
    images = f"{sum(examples):,.0f} images" if examples else "the images"
    pooled = " in one place" if record.summary.get("strategy") == "centralized" else ""
    return f"{what}, learned from {images} of {counted(clients, 'client')}{pooled}"


def verdict(record: RunRecord) -> str:
    """Say in a sentence or two whether post-training helped, and how good the kept model is.

    Judgements are the clients' on images that nothing was trained on. A gain of less than two
    standard errors (95 %) is called undecided.
    """
    if not record.completed:
        return ""
    reached = _reached(record.summary)
    if warning := guessing(record.summary, len(record.class_names)):
        reached += f" {warning}."
    judged = mapping(record.summary.get("judged"))
    verdicts = [mapping(row) for row in judged.get("verdicts") or ()]
    if not verdicts:
        return f"{_unjudged(record.summary)}{reached}"
    taken = [row for row in verdicts if number(row.get("step"))]
    kept = _called(judged.get("selected"))
    who = f"the clients' {counted(int(number(judged.get('images')) or 0), 'held-out image')}"
    if not taken:
        return f"Post-training did not help on {who}: the model of {kept} is kept. {reached}"
    gains = [number(row.get("gain")) or 0.0 for row in taken]
    errors = [number(row.get("standard_error")) or 0.0 for row in taken]
    gain, error = 100 * sum(gains), 100 * Z * sum(e * e for e in errors) ** 0.5
    said = f"{gain:+.1f} ± {error:.1f} points on {who}"
    if gain > error:
        return f"Post-training helped: {said}; the model of {kept} is kept. {reached}"
    return (
        f"Undecided whether post-training helped: {said}, less than these images can tell apart; "
        f"the model of {kept} is kept. {reached}"
    )


def _unjudged(summary: Mapping[str, Any]) -> str:
    """Say what the last stage changed where no client judged it; empty if there was none."""
    found = [s for s in stages(summary) if s.name != "selected" and s.accuracy is not None]
    first, last = next((s for s in found if s.name == "federated"), None), found[-1:]
    if first is None or first.accuracy is None or not last or last[0] is first:
        return ""
    (stage,) = last
    if not stage.images or stage.accuracy is None or stage.gain is None:
        return ""
    low, high = difference_interval(stage.accuracy, first.accuracy, stage.images)
    return (
        f"No client judged post-training: {_called(stage.name)} changed the accuracy by "
        f"{points(stage.gain)} ({100 * low:+.1f} to {100 * high:+.1f} at most) on {stage.images:,} "
        f"{MEASURED_ON.get(stage.by, 'images')}. "
    )


def _reached(summary: Mapping[str, Any]) -> str:
    accuracy, measured = mapping(summary.get("accuracy")), mapping(summary.get("measured"))
    for stage in ("selected", *reversed([name for name in accuracy if name != "selected"])):
        share = number(accuracy.get(stage))
        if share is None:
            continue
        who = mapping(measured.get(stage))
        images = int(number(who.get("images")) or 0)
        where = MEASURED_ON.get(str(who.get("by")), "images")
        on = f" of {images:,} {where}" if images else ""
        if who.get("also_chose") is True:
            on += ", which also chose it,"
        if summary.get("strategy") == "local":
            return f"The clients' own models classify {percent(share)}{on} correctly, on average."
        of = "It classifies" if stage == "selected" else f"The model of {_called(stage)} classifies"
        return f"{of} {percent(share)}{on} correctly."
    return "Nobody measured an accuracy."


def _called(stage: object) -> str:
    return _IN_WORDS.get(str(stage), str(stage))
