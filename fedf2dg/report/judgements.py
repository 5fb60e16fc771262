"""Whether what came after training helped: what the clients judged, in words and tables."""

from collections.abc import Mapping
from typing import Any

from fedf2dg.report.document import Cell, Row, Table
from fedf2dg.report.run_record import RunRecord, mapping, number
from fedf2dg.report.tables import MEASURED_ON, amount, percent, points, stages
from foundation import counted
from foundation.events.family import (
    ClientAccuracy,
    ClientJudgement,
    Evaluated,
    Judged,
    OwnLayersJudged,
    PrivacySpent,
)
from foundation.events.reading import from_json
from foundation.scores import Z, difference_interval, metric_of

_IN_WORDS = {
    "federated": "federated training",
    "calibrated": "calibration",
    "head": "the head in closed form",
    "distilled": "distillation",
    "competed": "competition",
}

_IN_ASCII = {"±": "+-", "λ": "lambda", "“": '"', "”": '"', "–": "-"}


def helped(record: RunRecord) -> str:
    """Say whether post-training helped; empty of a run that has not ended or had none.

    A gain of less than two standard errors (95 %) is called undecided.
    """
    if not record.completed:
        return ""
    judged = mapping(record.summary.get("judged"))
    verdicts = [mapping(row) for row in judged.get("verdicts") or ()]
    if not verdicts:
        return _unjudged(record.summary)
    taken = [row for row in verdicts if number(row.get("step"))]
    kept = _called(judged.get("selected"))
    who = f"the clients' {counted(int(number(judged.get('images')) or 0), 'held-out image')}"
    if not taken:
        return f"Post-training did not help on {who}: the model of {kept} is kept."
    gains = [number(row.get("gain")) or 0.0 for row in taken]
    errors = [number(row.get("standard_error")) or 0.0 for row in taken]
    gain, error = sum(gains), sum(e * e for e in errors) ** 0.5
    metric = metric_of(taken[-1].get("metric", "accuracy"))
    said = f"{metric.signed(gain, error)} on {who}"
    if gain > Z * error:
        return f"Post-training helped: {said}; the model of {kept} is kept."
    return (
        f"Undecided whether post-training helped: {said}, less than these images can tell apart; "
        f"the model of {kept} is kept."
    )


def _unjudged(summary: Mapping[str, Any]) -> str:
    found = [s for s in stages(summary) if s.name != "selected" and s.accuracy is not None]
    first, stage = (found[0], found[-1]) if len(found) > 1 else (None, None)
    if not first or not stage or first.name != "federated" or not stage.images:
        return ""
    if first.accuracy is None or stage.accuracy is None:
        return ""
    low, high = difference_interval(stage.accuracy, first.accuracy, stage.images)
    return (
        f"No client judged post-training: {_called(stage.name)} changed the accuracy by "
        f"{points(stage.gain)} ({100 * low:+.1f} to {100 * high:+.1f} at most) on {stage.images:,} "
        f"{MEASURED_ON.get(stage.by, 'images')}."
    )


def reached(summary: Mapping[str, Any]) -> str:
    """Say what share of the images the last model that was measured classifies correctly."""
    *_, stage = [None, *(s for s in stages(summary) if s.accuracy is not None)]
    if stage is None:
        return "Nobody measured an accuracy."
    on = f" of {stage.images:,} {MEASURED_ON.get(stage.by, 'images')}" if stage.images else ""
    on += ", which also chose it," if stage.also_chose else ""
    right = f"{percent(stage.accuracy)}{on} correctly"
    if summary.get("strategy") == "local":
        return f"The clients' own models classify {right}, on average."
    of = "It" if stage.name == "selected" else f"The model of {_called(stage.name)}"
    return f"{of} classifies {right}."


def _called(stage: object) -> str:
    return _IN_WORDS.get(str(stage), str(stage))


def verdicts(summary: Mapping[str, Any]) -> list[str]:
    """Return what was judged of each stage, in words; none where nobody judged."""
    found = mapping(summary.get("judged")).get("verdicts")
    rows = found if isinstance(found, list) else []
    return [str(sentence) for row in rows if (sentence := mapping(row).get("sentence"))]


def plain(sentence: str) -> str:
    """Return a sentence in ASCII."""
    for sign, said in _IN_ASCII.items():
        sentence = sentence.replace(sign, said)
    return sentence


def judgements_table(record: RunRecord) -> Table:
    """Return what the clients judged of each stage; without rows where there was none."""
    rows: list[Row] = []
    for event in record.of(Judged):
        known = event.gain is not None and event.standard_error is not None
        metric = metric_of(event.metric)
        gain = metric.signed(event.gain or 0.0, event.standard_error or 0.0) if known else ""
        rows.append([event.stage, gain, amount(event.images), Cell(event.verdict, "any")])
    header = ["stage", "gain and 95 % interval", "held-out images", "verdict"]
    return Table("Judgements of the clients", header, rows, words=(0, -1))


def own_layers(summary: Mapping[str, Any]) -> tuple[str, Table]:
    """Say at which sites a part of the model that is their own is better, and by how much.

    Empty, and without rows, of a run without ``personal``.
    """
    told = {"event": OwnLayersJudged.event, **mapping(summary.get("personal"))}
    judged, rows = from_json(told) if summary.get("personal") else None, list[Row]()
    if not isinstance(judged, OwnLayersJudged):
        return "", Table("", [], [])
    for site in judged.sites:
        error, name = site.standard_error or 0.0, site.who
        gain = f"{100 * (site.gain or 0.0):+.1f} ± {100 * Z * error:.1f} points"
        word = Cell("its own" if site.kept else "shared", "words good" if site.kept else "words")
        shares = (percent(site.shared), percent(site.own))
        rows.append([name, word, amount(site.images), *shares, gain])
    keeps = {
        "batch-norm": "BatchNorm layers of its own: they stayed at the site during the rounds",
        "head": "a last layer of its own, fitted to its images and held by the shared one",
    }.get(judged.of, judged.of)
    said = (
        f"{judged.sentence()}. Each site has {keeps}. It is taken where its gain over the shared "
        "model, image by image on what the site holds out, is above 0 for sure (95 %). The site "
        f"keeps it, as {judged.model}.safetensors in the folder models/ of its own folder (in a "
        "simulation sites/ of the run, on a real site .fedf2dg beside its images), from where "
        "“fedf2dg predict --site” and “evaluate --site” take it"
    )
    header = ["site", "better model", "held-out images", "shared", "own", "gain and 95 % interval"]
    title = "A part of the model for each site"
    return f"{said[:1].upper()}{said[1:]}.", Table(title, header, rows, (0, 1))


def privacy(summary: Mapping[str, Any]) -> dict[str, str]:
    """Say what the global models give away of a client, as a fact; nothing where nobody counted."""
    spent = from_json({"event": PrivacySpent.event, **mapping(summary.get("privacy"))})
    if not isinstance(spent, PrivacySpent) or not summary.get("privacy"):
        return {}
    said = (
        f"{spent.sentence()[len('privacy: ') :]}; each update clipped to norm "
        f"{spent.clipping_norm:.3g} ({spent.clipping}), noise of {spent.noise_multiplier:g} times "
        "that on their sum. It covers the model, and not what clients tell of labels and accuracies"
    )
    return {"differential privacy": said}


def clients_table(record: RunRecord) -> Table:
    """Return what each client has and what each model does on its images."""
    shares: dict[int | str, dict[str, float | None]] = {}
    facts: dict[int | str, ClientJudgement | ClientAccuracy] = {}

    def note(row: ClientJudgement | ClientAccuracy, column: str, share: float | None) -> None:
        client = row.name if row.client is None else row.client
        facts.setdefault(client, row)
        shares.setdefault(client, {}).setdefault(column, share)

    for judged in record.of(Judged):
        for row in judged.clients:
            note(row, judged.before, row.before)
            note(row, judged.stage, row.stage)
    for evaluated in record.of(Evaluated):
        for told in evaluated.on_clients.clients if evaluated.on_clients else ():
            note(told, evaluated.stage, told.accuracy)
    if (last := record.latest(Judged)) is not None:
        for row in last.clients:
            note(row, "kept", row.kept)
    columns = list(dict.fromkeys(column for found in shares.values() for column in found))
    names, examples = dict(enumerate(record.met.names)), record.met.num_examples
    rows = [
        [
            names.get(row.client if row.client is not None else -1) or row.name or str(client),
            f"{examples[client]:,.0f}"
            if isinstance(client, int) and client < len(examples)
            else "",
            amount(row.images),
            *(percent(shares[client].get(column)) for column in columns),
        ]
        for client, row in facts.items()
    ]
    header = ["client", "training images", "held-out images", *columns]
    title = "Accuracy on each client's held-out images"
    return Table(title, header, rows, rest_in="summary.json")
