"""A run's report: one file that a browser opens anywhere, also while the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedf2dg.report import figures
from fedf2dg.report.diagnosis import diagnosis_section
from fedf2dg.report.judgements import clients_table, judgement_section
from fedf2dg.report.page import figure, page, paragraph, section, subheading, text
from fedf2dg.report.pseudo_images import PseudoDataError, read_grid, stored_sets
from fedf2dg.report.run_record import STAGES, RunRecord, mapping, number
from fedf2dg.report.tables import (
    MEASURED_ON,
    MOST_ROWS,
    NONE,
    Cell,
    duration,
    html_table,
    left_out,
    measured_sentence,
    percent,
    points,
    stage_table,
    stages,
)
from fedf2dg.report.verdict import title, verdict
from foundation import counted, only_warned, write_whole

_REFRESH_SECONDS = 10
_MOST_LETTERS = 500
_MEANING = (
    "Nobody photographed these images. Each was computed from a client's model alone, until that "
    "model was sure of the class; the global model then learned from them. They show what the "
    "models react to, and need not look like anything. Where a frame is empty, none was made for "
    "that client and class."
)


def write_report(run_directory: Path | str) -> Path:
    """Render ``report.html`` from whatever a run's directory holds.

    Parameters
    ----------
    run_directory : Path | str
        A run's directory, of a run that is finished, going on, or broken off.

    Returns
    -------
    Path
        The report. The same directory gives the same file, byte for byte.

    Raises
    ------
    FileNotFoundError
        If there is no such directory, or none of a run's files in it.
    """
    record = RunRecord.read(run_directory)
    made: list[tuple[str, Callable[[RunRecord], str]]] = [
        ("the headline", _headline),
        ("the table of results", _results),
        ("the judgement of the clients", judgement_section),
        ("the diagnosis", diagnosis_section),
        ("the accuracy over the run", _accuracy),
        ("what the clients hold", _clients),
        ("the generated images", _pseudo_images),
        ("the confusion matrices", _confusion),
        ("the dropped clients", _dropped),
        ("the traffic", _traffic),
        ("the configuration", _configuration),
        ("the versions", _versions),
    ]
    parts = [_part(name, make, record) for name, make in made]
    path = record.directory / "report.html"
    # The run and someone who follows it may render at the same time.
    refresh = 0 if record.ended else _REFRESH_SECONDS
    write_whole(path, page(title(record), parts, refresh=refresh), rivals=True)
    return path


def _part(name: str, make: Callable[[RunRecord], str], record: RunRecord) -> str:
    """Return a part of the report, or the sentence that says that it could not be made."""
    with only_warned(f"{name} in the report"):
        return make(record)
    sentence = f"{name[:1].upper()}{name[1:]} could not be made; the command's output says why."
    return paragraph(sentence, "warning")


def _fact(record: RunRecord, name: str) -> str:
    """Return an entry of the summary as text."""
    value = record.summary.get(name)
    return "unknown" if value is None else str(value)


def _headline(record: RunRecord) -> str:
    """What was learned from what, what came of it, and how it ended."""
    ran = [stage for stage in stages(record.summary) if stage.accuracy is not None]
    way = " → ".join(f"{percent(stage.accuracy)} {stage.name}" for stage in ran)
    facts = {
        "strategy": _fact(record, "strategy"),
        "then": str(record.summary.get("post_training") or "nothing"),
        "data set": _fact(record, "dataset"),
        "clients": _fact(record, "clients"),
        **_images(record),
        "seed": _fact(record, "seed"),
        "started": str(record.last("start").get("time", "unknown")),
        "status": record.status,
    }
    items = "".join(f"<li>{text(k)} <b>{text(v)}</b></li>" for k, v in facts.items())
    warnings = [paragraph(problem, "warning") for problem in record.problems]
    if not record.completed:
        reason = record.last("end").get("reason") or record.summary.get("reason")
        said = f" The reason it gave: {_cut(str(reason))}" if reason else ""
        warnings.insert(
            0,
            paragraph(
                f"Status: {record.status}. The report shows what the run's directory holds so far."
                + said,
                "warning",
            ),
        )
    lead = verdict(record) or way or "No accuracy measured yet."
    return "\n".join(
        [
            f"<header><h1>{text(title(record))}</h1>",
            f'<p class="lead">{text(lead)}</p>',
            paragraph(way, "way") if way and lead != way else "",
            f'<ul class="facts">{items}</ul></header>',
            *warnings,
            _model(record),
        ]
    )


def _images(record: RunRecord) -> dict[str, str]:
    """How many images were trained on, and measured on by whom."""
    facts, examples = {}, record.examples_per_client()
    if examples:
        facts["training images"] = f"{sum(examples):,.0f}"
    for stage in stages(record.summary):
        if stage.by in MEASURED_ON and stage.images:
            facts[MEASURED_ON[stage.by]] = f"{stage.images:,}"
    judged = number(mapping(record.summary.get("judged")).get("images"))
    if judged:
        facts[MEASURED_ON["clients"]] = f"{judged:,.0f}"
    return facts


def _model(record: RunRecord) -> str:
    """Where the run's result is."""
    if (record.directory / "model" / "config.json").is_file():
        return paragraph(
            "The model that was kept is in the folder model/ beside this page. Its README.md is "
            "its card; “fedf2dg predict” and “fedf2dg export” take the folder as it is."
        )
    if record.completed:
        return paragraph(
            "There is no folder model/ beside this page: the strategy has no global model, or the "
            "run was made by a version that kept none."
        )
    return ""


def _results(record: RunRecord) -> str:
    """The table of stages."""
    notes = [
        "Accuracy is that of the last round or epoch of a stage. “Best on test” is the highest "
        "value met on the way on the server’s test set, chosen on it: it serves comparison with "
        "papers that report it, not as a result.",
        "Intervals are those of other images of the same kind (Wilson; of a gain Newcombe, as if "
        "the two models had been asked about different images, so that it is at most so wide). "
        "They say nothing of other seeds.",
    ]
    if said := measured_sentence(record.summary):
        notes.insert(0, f"{said}.")
    for stage in stages(record.summary):
        if stage.parts:
            notes.append(f"Time of the stage “{stage.name}”: {stage.parts}.")
    skipped = [
        stage.name
        for stage in stages(record.summary)
        if stage.accuracy is None and stage.by != "nobody"
    ]
    if skipped and record.completed:
        notes.append(f"Not part of this run: {', '.join(skipped)}.")
    return section(
        "Results", stage_table(record.summary), *(paragraph(note, "note") for note in notes)
    )


def _generation(record: RunRecord) -> str:
    """How the pseudo images were made."""
    rows = []
    for event in record.of_kind("generation"):
        images, steps = number(event.get("images")), number(event.get("iterations"))
        seconds = number(event.get("seconds"))
        rate = images * steps / seconds if images and steps and seconds else None
        budgets = event.get("budgets")
        sizes = [int(b) for b in map(number, budgets if isinstance(budgets, list) else []) if b]
        objective = number(event.get("objective"))
        rows.append(
            [
                Cell(str(event.get("kind", ""))),
                Cell(str(event.get("competition_round", "")), "number"),
                Cell(str(event.get("batch", "")), "number"),
                Cell(_count(images), "number"),
                Cell(_range(sizes), "number"),
                Cell(_count(steps), "number"),
                Cell("–" if objective is None else f"{objective:.4g}", "number"),
                Cell(duration(seconds), "number"),
                Cell(_count(rate), "number"),
            ]
        )
    header = [
        "samples",
        "competition round",
        "batch",
        "images",
        "per client",
        "iterations",
        "objective",
        "time",
        "image iterations/s",
    ]
    table = html_table(header, rows[:MOST_ROWS], label="Generation of pseudo images")
    return table + left_out(len(rows), "metrics.jsonl")


def _accuracy(record: RunRecord) -> str:
    """The curve."""
    heading = "Accuracy over the run"
    measured = record.measurements()
    if not measured:
        return section(heading, paragraph("No accuracy measured yet."))
    ran = ", then ".join(
        f"{stage.name} at {percent(stage.accuracy)}"
        + (f" ({points(stage.gain)})" if stage.gain is not None else "")
        for stage in stages(record.summary)
        if stage.accuracy is not None
    )
    means = {
        "federated": "federated rounds",
        "distillation": "epochs of the first distillation",
        "competition": "competition rounds, each of them one federated round from the distilled "
        "model (where clients are retrained), then hard samples and distillation",
    }
    axes = [meaning for stage, meaning in means.items() if any(m.stage == stage for m in measured)]
    caption = (
        "Accuracy of the global model"
        + (f"; each stage has its own axis: {', '.join(axes)}" if len(axes) > 1 else "")
        + ". The value above is the last measurement of the stage."
    )
    classes = len(record.class_names)
    chance = 1 / classes if classes > 1 else None
    if chance is not None:
        caption += f" Guessing among {classes} classes of equal size gives {percent(chance)}."
    svg = figures.to_svg(
        figures.accuracy_curve(measured, chance),
        "accuracy",
        f"Line chart of accuracy over the run: {ran or 'see caption'}.",
    )
    return section(heading, figure(svg, caption))


def _clients(record: RunRecord) -> str:
    """Who holds what."""
    heading = "What the clients hold"
    counts, examples = record.label_counts(), record.examples_per_client()
    if counts:
        empty = sum(value == 0 for row in counts for value in row) / (len(counts) * len(counts[0]))
        described = (
            f"Heat map of the number of training images per client and class: {len(counts)} "
            f"clients, {len(counts[0])} classes, {100 * empty:.0f} % of the cells empty."
        )
        svg = figures.to_svg(
            figures.label_counts(counts, record.class_names, client_names=record.client_names()),
            "label-counts",
            described,
        )
        caption = (
            "Training images per client (row) and class (column), as the clients reported them; "
            "empty cells hold none. The colour scale is that of square roots, so that small counts "
            "show."
        )
        return section(heading, figure(svg, caption), *_by_client(record))
    if not examples:
        return section(heading, paragraph("Not reported yet."), *_by_client(record))
    said = (
        f"{counted(len(examples), 'client')} with {sum(examples):,.0f} training images in all, "
        f"{min(examples):,.0f} to {max(examples):,.0f} each. Label counts were not sent to the "
        f"server ({_why_uncounted(record)}), so they cannot be shown."
    )
    return section(heading, paragraph(said), *_by_client(record))


def _by_client(record: RunRecord) -> list[str]:
    """What each model does on each client's held-out images."""
    table = clients_table(record)
    return [subheading("Accuracy by client, on its own held-out images"), table] if table else []


def _why_uncounted(record: RunRecord) -> str:
    settings = record.configuration
    if settings.get("generation.place") == "client":
        return "generation.place=client: the clients invert the models, and need not tell them"
    if settings.get("label-counts"):
        return f"label-counts={settings['label-counts']}"
    return "the run's settings are not known"


def _pseudo_images(record: RunRecord) -> str:
    """The first common samples, and the last hard ones."""
    heading = "Generated images"
    sets = stored_sets(record.directory)
    made = [_generation(record)] if record.of_kind("generation") else []
    if not sets:
        return section(heading, paragraph("No pseudo images stored."), *made)
    shown = sets[:1] + [s for s in sets[1:] if s[0] != sets[0][0]][-1:]
    parts = [paragraph(_MEANING)]
    for kind, competition_round in shown:
        try:
            grid = read_grid(record.directory, kind, competition_round)
        except PseudoDataError as error:
            parts.append(paragraph(f"{str(error)[:1].upper()}{_cut(str(error)[1:])}.", "warning"))
            continue
        drawn = figures.pseudo_image_grid(
            grid.tiles, grid.clients, grid.classes, record.class_names, record.client_names()
        )
        when = f" of competition round {competition_round}" if competition_round else ""
        described = (
            f"Grid of generated images, {kind} samples{when}: {len(grid.clients)} clients in rows, "
            f"{len(grid.classes)} classes in columns."
        )
        caption = (
            f"{kind.capitalize()} samples{when}: the first image made from each client's model "
            f"(row) for each class (column). No real image was used. {grid.note}"
        )
        name = f"pseudo-{len(parts)}"
        parts.append(figure(figures.to_svg(drawn, name, described), caption))
    if len(sets) > len(shown):
        parts.append(paragraph(f"{len(sets)} sets are stored; {len(shown)} are shown.", "note"))
    return section(heading, *parts, *made, long=True)


def _confusion(record: RunRecord) -> str:
    """Confusion matrices before and after post-training."""
    heading = "Classes, before and after post-training"
    titles = {
        "federated": "federated (before)",
        "distilled": "distilled (after)",
        "competed": "competed",
    }
    others = [str(event.get("stage")) for event in record.of_kind("evaluation")]
    titles |= {stage: stage for stage in others if stage not in titles}
    matrices = {
        titles[stage]: matrix for stage in titles if (matrix := record.confusion(stage)) is not None
    }
    if not matrices:
        return section(heading, paragraph("No confusion matrix measured yet."))
    svg = figures.to_svg(
        figures.confusion_matrices(matrices, record.class_names),
        "confusion",
        "Confusion matrices on the test set, " + ", ".join(matrices) + ": "
        "true classes in rows, predicted classes in columns.",
    )
    caption = (
        "Test images by true class (row) and predicted class (column). Colour is the share of a "
        "row, numbers are images; the diagonal is right, and a full column off it is a class the "
        "model predicts too often."
    )
    recalls = _recalls(matrices, record.class_names)
    wanted = ("federated", "distilled") if set(others) <= set(STAGES) else ("federated",)
    missing = [stage for stage in wanted if titles[stage] not in matrices]
    note = [paragraph(f"Not measured: {', '.join(missing)}.", "note")] if missing else []
    return section(heading, recalls, figure(svg, caption), *note)


def _recalls(matrices: Mapping[str, Sequence[Sequence[float]]], names: Sequence[str]) -> str:
    """How many of each class's test images every stage classifies correctly."""
    rows = []
    for label, row in enumerate(next(iter(matrices.values()))):
        shares = [
            percent(matrix[label][label] / sum(matrix[label])) if sum(matrix[label]) else NONE
            for matrix in matrices.values()
        ]
        name = names[label] if label < len(names) else str(label)
        rows.append([Cell(name), Cell(f"{sum(row):,.0f}", "number")])
        rows[-1] += [Cell(share, "number") for share in shares]
    header = ["class", "test images", *(f"recall, {stage}" for stage in matrices)]
    table = html_table(header, rows[:MOST_ROWS], label="Recall of each class")
    return table + left_out(len(rows), "metrics.jsonl")


def _dropped(record: RunRecord) -> str:
    """Clients whose reply was not used."""
    heading = "Dropped clients"
    failures = record.failures()
    if not failures:
        return section(heading, paragraph("None: every reply that came was used."))
    rows = [
        [Cell(when), Cell(client), Cell(_cut(reason), "any")]
        for when, client, reason in failures[:MOST_ROWS]
    ]
    table = html_table(["round", "client", "reason"], rows, label="Dropped clients")
    return section(heading, table, left_out(len(failures), "metrics.jsonl"), long=True)


def _traffic(record: RunRecord) -> str:
    """Bytes on the wire."""
    heading = "Bytes per round"
    names, down, up = [], [], []
    for event in record.of_kind("round"):
        sent, received = number(event.get("bytes_down")), number(event.get("bytes_up"))
        if sent is None and received is None:
            continue
        names.append(("c" if event.get("phase") == "competition" else "") + str(event.get("round")))
        down.append(sent or 0.0)
        up.append(received or 0.0)
    if not names:
        return section(heading, paragraph("Not measured in this run."))
    in_all = f"{_bytes(sum(down))} from the server to the clients, {_bytes(sum(up))} back"
    svg = figures.to_svg(
        figures.bytes_per_round(names, down, up),
        "bytes",
        f"Bar chart of bytes per round: {in_all}.",
    )
    competed = " Rounds of the competition are marked c." if "c" in "".join(names) else ""
    return section(
        heading,
        figure(svg, f"All clients together; in all {in_all}.{competed}"),
        *_traffic_by_kind(record),
    )


def _traffic_by_kind(record: RunRecord) -> list[str]:
    """What left the server and the clients in the whole run, generation included."""
    counted = record.summary.get("traffic")
    if not isinstance(counted, Mapping):
        return []
    kinds = []
    for kind, sizes in counted.items():
        if isinstance(sizes, Mapping):
            down, up = number(sizes.get("bytes_down")) or 0, number(sizes.get("bytes_up")) or 0
            kinds.append(f"{kind}: {_bytes(down)} to the clients, {_bytes(up)} from them")
    return [paragraph(f"In the whole run, {'; '.join(kinds)}.", "note")] if kinds else []


def _configuration(record: RunRecord) -> str:
    """Every key of the run."""
    rows = [
        [Cell(key), Cell(value if isinstance(value, str) else json.dumps(value))]
        for key, value in record.configuration.items()
    ]
    return _settings("Configuration", rows, "config.json holds no configuration.")


def _versions(record: RunRecord) -> str:
    """What it ran on."""
    rows = [[Cell(str(name)), Cell(str(value))] for name, value in record.versions.items()]
    if record.device:
        rows.insert(0, [Cell("device"), Cell(str(record.device))])
    return _settings("Versions", rows, "config.json holds no versions.")


def _settings(title: str, rows: Sequence[Sequence[Cell]], nothing: str) -> str:
    """A section of names and values in columns."""
    if not rows:
        return section(title, paragraph(nothing))
    table = html_table([], rows, label=title)
    return section(title, f'<div class="settings">{table}</div>', long=True)


def _cut(content: str) -> str:
    """Shorten what a client may have made arbitrarily long."""
    return content if len(content) <= _MOST_LETTERS else content[: _MOST_LETTERS - 1] + "…"


def _range(values: Sequence[int]) -> str:
    if not values:
        return "–"
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _bytes(value: float) -> str:
    size, unit = figures.byte_unit(value)
    return f"{value / size:,.1f} {unit}" if size > 1 else f"{value:,.0f} {unit}"
