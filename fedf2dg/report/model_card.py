"""The card of a trained model: what it learned from what, how good it is, and who says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedf2dg.report.document import Row, Table, escaped, written
from fedf2dg.report.judgements import verdicts
from fedf2dg.report.run_record import mapping, number
from fedf2dg.report.tables import percent
from fedf2dg.report.verdict import MEANING, Evidence, classes_table, sites_table, verdict
from fedf2dg.use.formats import SAFETENSORS, usage
from foundation import counted
from foundation.data.names import listed

if TYPE_CHECKING:
    from foundation.models import ModelDescription

_MEASURED_BY = {
    "server": "the server, on its test set",
    "clients": "the clients together, on what they held out",
}


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
    clients, rounds = (int(number(summary.get(name)) or 0) for name in ("clients", "rounds"))
    height, width = model.image_size
    kind, dataset = "grey" if model.channels == 1 else "colour", str(summary.get("dataset"))
    mean, std = (", ".join(f"{value:.6g}" for value in part) for part in (model.mean, model.std))
    facts = {
        "kind of data": f"{kind} images of {height}x{width} pixels (height x width), {dataset}",
        "an image's way in": (
            f"upright, transparent parts white; scaled until it covers {height}x{width} pixels "
            "(bicubic), cut at the centre; each channel (byte / 255 - mean) / deviation with mean "
            f"{mean} and deviation {std}"
        ),
        "classes": f"{len(model.classes)}: {listed(model.classes)}",
        "architecture": model.architecture,
        "clients": f"{clients:,}",
        "training": f"{summary.get('strategy')}, {counted(rounds, 'federated round')}",
        "post-training": str(summary.get("post_training")),
        "stage that was kept": kept,
        "seed": str(summary.get("seed")),
    }
    said = verdicts(summary)
    said = said or [f"Nobody judged: the model is the result of the last stage, {kept}"]
    measured, evidence = _measured(summary, kept), Evidence.of(summary)
    found = verdict(evidence.whole, model.classes, evidence.on)
    tables = [sites_table(evidence, model.classes)]
    if evidence.whole:
        tables.append(classes_table(evidence.whole, model.classes))
    return written(
        "card",
        # A string in JSON is one in YAML.
        dataset_tag=json.dumps(dataset),
        dataset=escaped(dataset),
        clients=counted(clients, "client"),
        pooled=summary.get("strategy") == "centralized",
        facts=Table("", ["what", "value"], [list(fact) for fact in facts.items()], words=(0, 1)),
        measured=measured if measured.rows else None,
        verdicts=[escaped(sentence) for sentence in said],
        word=found.word,
        numbers=escaped(f"{found.numbers[:1].upper()}{found.numbers[1:]} {found.classes}".strip()),
        tables=[table for table in tables if table.rows],
        meaning=MEANING,
        traffic=_traffic(summary),
        usage=usage(SAFETENSORS),
    )


def _measured(summary: Mapping[str, Any], kept: str) -> Table:
    """Who measured the model on how many images: all together, and each client."""
    measured = mapping(mapping(summary.get("measured")).get("selected"))
    accuracy = number(mapping(summary.get("accuracy")).get("selected"))
    rows: list[Row] = []
    if accuracy is not None:
        who = _MEASURED_BY.get(str(measured.get("by")), str(measured.get("by")))
        if measured.get("also_chose") is True:
            who += ": images that also chose it of several models, which flatters it"
        rows.append([who, _images(measured), percent(accuracy)])
    rows += [
        [f"{row.get('name', 'a client')}, on what it held out", _images(row), percent(share)]
        for row, share in _by_client(summary, kept)
        if share is not None
    ]
    return Table("", ["who measured", "on", "accuracy"], rows)


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


def _traffic(summary: Mapping[str, Any]) -> Table:
    sizes = {
        kind: int(number(mapping(size).get("bytes_up")) or 0)
        for kind, size in mapping(summary.get("traffic")).items()
    }
    rows = [[kind, f"{size:,}"] for kind, size in sizes.items() if size]
    return Table("", ["what", "bytes, all clients together"], rows)
