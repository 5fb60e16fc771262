"""The card of a trained model: what it learned from what, how good it is, and who says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedf2dg.report.guessing import guessing
from fedf2dg.report.judgements import verdicts
from fedf2dg.report.run_record import mapping, number
from fedf2dg.report.tables import percent
from fedf2dg.use.formats import SAFETENSORS, usage
from foundation import counted

if TYPE_CHECKING:
    from foundation.models import ModelDescription

_NAMES_SHOWN = 20
_MEASURED_BY = {
    "server": "the server, on its test set",
    "clients": "the clients together, on what they held out",
}
_STAYED = "They stayed with the clients.\n"
_POOLED = "They were in one place: a baseline, not federated learning.\n"


def model_card(summary: Mapping[str, Any], *, kept: str, model: ModelDescription) -> str:
    """Return the ``README.md`` of a run's model, a Hugging Face model card.

    Parameters
    ----------
    summary : Mapping
        The content of the run's ``summary.json``.
    kept : str
        The stage whose model it is.
    model : ModelDescription
        What it is, and what images it takes.
    """
    method, dataset = str(summary.get("post_training")), str(summary.get("dataset"))
    clients, rounds = int(summary.get("clients") or 0), int(summary.get("rounds") or 0)
    height, width = model.image_size
    kind = "grey" if model.channels == 1 else "colour"
    facts = {
        "kind of data": f"{kind} images of {height}x{width} pixels (height x width), {dataset}",
        "an image's way in": (
            f"upright, transparent parts white; scaled until it covers {height}x{width} pixels "
            "(bicubic), cut at the centre; each channel (byte / 255 - mean) / deviation with mean "
            f"{_constants(model.mean)} and deviation {_constants(model.std)}"
        ),
        "classes": f"{len(model.classes)}: {_named(model.classes)}",
        "architecture": model.architecture,
        "clients": f"{clients:,}",
        "training": f"{summary.get('strategy')}, {counted(rounds, 'federated round')}",
        "post-training": method,
        "stage that was kept": kept,
        "seed": str(summary.get("seed")),
    }
    parts = [
        _front_matter(dataset),
        f"# Image classifier, {_escaped(dataset)}, by federated learning\n",
        f"The images of {counted(clients, 'client')} trained this model. "
        + (_POOLED if summary.get("strategy") == "centralized" else _STAYED),
        _table(("what", "value"), facts.items()),
        "## How good it is\n",
        _accuracy(summary, kept, len(model.classes)),
        "## What left the clients\n",
        _traffic(summary),
        "## How to use it\n",
        usage(SAFETENSORS),
        "## Licence\n",
        "Not chosen yet: write it here, and in the line `license:` at the top of this file.\n",
    ]
    return "\n".join(parts)


def _constants(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _front_matter(dataset: str) -> str:
    """Return the lines that Hugging Face reads; ``unknown`` is its word for no licence yet."""
    return "\n".join(
        [
            "---",
            "license: unknown",
            "library_name: fedf2dg",
            "pipeline_tag: image-classification",
            "tags:",
            "- federated-learning",
            "- flower",
            "- fedf2dg",
            # A string in JSON is one in YAML.
            f"- {json.dumps(dataset)}",
            "---",
            "",
        ]
    )


def _accuracy(summary: Mapping[str, Any], kept: str, classes: int) -> str:
    measured = mapping(mapping(summary.get("measured")).get("selected"))
    accuracy = number(mapping(summary.get("accuracy")).get("selected"))
    rows = []
    if accuracy is not None:
        who = _MEASURED_BY.get(str(measured.get("by")), str(measured.get("by")))
        if measured.get("also_chose") is True:
            who += ": images that also chose it of several models, which flatters it"
        rows.append((who, _images(measured), percent(accuracy)))
    rows += [
        (f"{row.get('name', 'a client')}, on what it held out", _images(row), percent(share))
        for row, share in _by_client(summary, kept)
        if share is not None
    ]
    table = _table(("who measured", "on", "accuracy"), rows) if rows else "Nobody measured it.\n"
    nobody = f"Nobody judged: the model is the result of the last stage, {kept}"
    said = verdicts(summary) or [nobody]
    lines = [f"{_escaped(sentence)}.\n" for sentence in said]
    if warning := guessing(summary, classes):
        lines.append(f"**{warning}.**\n")
    return "\n".join([table, *lines])


def _by_client(
    summary: Mapping[str, Any], kept: str
) -> list[tuple[Mapping[str, Any], float | None]]:
    """Return what each client found of the model: in the last judgement, else when it measured."""
    judgements = list(mapping(mapping(summary.get("judged")).get("clients")).values())
    if judgements:
        rows, key = judgements[-1], "kept"
    else:
        rows, key = mapping(mapping(summary.get("on_clients")).get(kept)).get("clients"), "accuracy"
    found = map(mapping, rows if isinstance(rows, list) else [])
    return [(row, number(row.get(key))) for row in found]


def _images(row: Mapping[str, Any]) -> str:
    return counted(int(number(row.get("images")) or 0), "image")


def _traffic(summary: Mapping[str, Any]) -> str:
    rows = [
        (kind, f"{int(number(mapping(sizes).get('bytes_up')) or 0):,}")
        for kind, sizes in mapping(summary.get("traffic")).items()
    ]
    return _table(("what", "bytes, all clients together"), [row for row in rows if row[1] != "0"])


def _named(classes: Sequence[str]) -> str:
    more = len(classes) - _NAMES_SHOWN
    shown = ", ".join(classes[:_NAMES_SHOWN])
    return f"{shown} and {more:,} more (see config.json)" if more > 0 else shown


def _table(header: Sequence[str], rows: Any) -> str:
    lines = [header, ["---"] * len(header), *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _escaped(content: str) -> str:
    """Return text that is no Markdown: names come from folders and from clients."""
    for character in "\\`*_[]<>|#":
        content = content.replace(character, f"\\{character}")
    return " ".join(content.split())
