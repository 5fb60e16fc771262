"""Whether what came after training helped: what the clients judged, in words and tables."""

from collections.abc import Mapping
from typing import Any

from fedf2dg.report.document import Cell, Row, Table
from fedf2dg.report.run_record import RunRecord, mapping, number
from fedf2dg.report.tables import amount, percent, points, stages
from foundation import counted
from foundation.events.family import (
    ClientAccuracy,
    ClientJudgement,
    Evaluated,
    Judged,
    OwnLayersJudged,
    OwnModels,
    PrivacySpent,
    SiteGain,
)
from foundation.events.reading import from_json
from foundation.scores import FEW, Gain, Z, difference_interval, metric_of
from foundation.wording import OWN_IS_BETTER

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
        f"{stage.on}."
    )


def reached(summary: Mapping[str, Any]) -> str:
    """Say what share of the images the last model that was measured classifies correctly."""
    *_, stage = [None, *(s for s in stages(summary) if s.accuracy is not None)]
    if stage is None:
        return "Nobody measured an accuracy."
    on = f" of {stage.images:,} {stage.on}" if stage.images else ""
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
    return Table("What the clients judged", header, rows, words=(0, -1))


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


#: Whose model a gain is over.
OF_SITE, OF_SITES = "the site's own model", "the sites' own models"
_LOOK = f"{OWN_IS_BETTER[:1].upper()}{OWN_IS_BETTER[1:]}."


def meaning(own: OwnModels) -> str:
    """Return what the table of gains means; stands under it."""
    trained = (
        "trained a model of its own on its own images alone, from the same weights, with the same "
        "settings and for as many rounds"
        if own.rounds
        else "found a head in closed form on the features of its own images alone"
    )
    lost = any(gain.high < 0 for site in own.sites if (gain := site.gain))
    return (
        f"Every site {trained}, and showed it to nobody. Both models then classified the images "
        "that the site holds out. Intervals are of 95 % and paired, image by image; a gain whose "
        "interval holds 0 may be chance, and counts as not shown."
        + (f" Where a site's own model is better: {OWN_IS_BETTER}." if lost else "")
    )


def own_models_in(summary: Mapping[str, Any]) -> OwnModels | None:
    """Return what a run's summary tells of the sites' own models; None if it had none."""
    told = from_json({**mapping(summary.get("own_models")), "event": OwnModels.event})
    return told if isinstance(told, OwnModels) and told.gain else None


def beside(gain: Gain, whose: str = OF_SITE) -> tuple[str, str]:
    """Return a gain over another model as the level of a verdict, and its kind."""
    size = f"by {100 * abs(gain.value):.1f} points"
    if gain.low > 0:
        return f"better than {whose} {size}", "good"
    if gain.high < 0:
        return f"worse than {whose} {size}", "bad"
    return f"not shown to be better than {whose}", "unsure"


def gain_sentence(gain: Gain, whose: str = OF_SITE) -> str:
    """Return the figures behind it."""
    word = "lost" if gain.value < 0 else "gained"
    said = f"Joining {word} {100 * abs(gain.value):.1f} points over {whose} ({_ends(gain)})."
    return f"{said} {_LOOK}" if gain.high < 0 and whose == OF_SITE else said


def gains_table(own: OwnModels | None) -> Table:
    """Return the gain of all sites together and of each, the worst first."""
    known = [] if own is None else [(site.name, site, g) for site in own.sites if (g := site.gain)]
    places: list[tuple[str, OwnModels | SiteGain, Gain]] = [
        *sorted(known, key=lambda one: one[2].value)
    ]
    if own is not None and own.gain is not None:
        places.insert(0, ("all", own, own.gain))
    rows: list[Row] = []
    for place, told, gain in places:
        word, kind = beside(gain, OF_SITES if told is own else OF_SITE)
        few = "°" if (told.images or 0) < FEW else ""
        rows.append(
            [
                place,
                Cell(f"{word[:1].upper()}{word[1:]}", f"words wide {kind}"),
                f"{told.images:,}",
                percent(told.own),
                percent(told.joined),
                f"{100 * gain.value:+.1f} ({_ends(gain)}){few}",
                f"{told.gained:,}",
                f"{told.lost:,}",
            ]
        )
    header = ["site", "verdict", "held-out images", "own model right", "this model right"]
    header += ["gain in points (95 % interval)", "only this model right", "only the own right"]
    return Table("What joining gained", header, rows, (0, 1), rest_in="summary.json")


def _ends(gain: Gain) -> str:
    low, high = (max(-100.0, 100 * gain.low), min(100.0, 100 * gain.high))
    return f"{low:+.1f} to {high:+.1f}"
