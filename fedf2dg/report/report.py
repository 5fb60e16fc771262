"""A run's report: one file that a browser opens anywhere, also while the run goes on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from fedf2dg.report import figures
from fedf2dg.report.document import (
    Cell,
    Columns,
    Document,
    Facts,
    Heading,
    Note,
    Part,
    Picture,
    Section,
    Table,
)
from fedf2dg.report.judgements import (
    clients_table,
    helped,
    judgements_table,
    own_layers,
    privacy,
    reached,
)
from fedf2dg.report.pseudo_images import PseudoDataError, read_grid, stored_sets
from fedf2dg.report.run_record import STAGES, Lost, RunRecord, json_in, mapping, number
from fedf2dg.report.tables import (
    DIAGNOSIS,
    EXPLAINED,
    MEASURED_ON,
    amount,
    ceilings_table,
    measured_sentence,
    percent,
    size_in_words,
    stage_table,
    stages,
)
from fedf2dg.report.tested_images import read_test_images
from fedf2dg.report.verdict import Evidence, details, opening
from foundation import counted, only_warned, scores, write_whole
from foundation.events.family import Evaluated, ImagesMade, Judged, RoundDone, RunEnded, RunStarted
from foundation.wording import duration, named, spans

_REFRESH_SECONDS = 10
_MOST_LETTERS = 500
_NAMES_SHOWN = 6
_PSEUDO_IMAGES = (
    "Nobody photographed these images. Each was computed from a client's model alone, until that "
    "model was sure of the class; the global model then learned from them. They show what the "
    "models react to, and need not look like anything. Where a frame is empty, none was made for "
    "that client and class."
)
# Keys by which a simulation divides a data set among its clients: no real site has any of them.
_SIMULATION = (
    "partition",
    "dirichlet-alpha",
    "quantity-alpha",
    "classes-per-client",
    "min-partition-size",
    "train-samples",
    "feature-noise",
    "feature-noise-kind",
    "label-noise",
    "label-noise-rate",
)
_DIAGNOSIS = (
    "Accuracy on the test images with one thing in place of what a data-free method has. "
    "Rows marked “simulation only” use the clients' own images, which no server of real sites has: "
    "they say where a method's limit lies, and are no result."
)


def write_report(run_directory: Path | str) -> Path:
    """Render ``report.html`` of a run that is finished, going on, or broken off.

    The same directory gives the same file, byte for byte. FileNotFoundError if it holds none of a
    run's files.
    """
    record = RunRecord.read(run_directory)
    made: dict[str, Callable[[RunRecord], Iterator[Part]]] = {
        "the figures by class": _by_class,
        "the table of results": _results,
        "the judgement of the clients": _judgements,
        "the diagnosis": _diagnosis,
        "the accuracy over the run": _accuracy,
        "what the clients hold": _clients,
        "the generated images": _pseudo_images,
        "the confusion matrices": _confusion,
        "the wrong images": _wrong_images,
        "the dropped clients": _dropped,
        "the traffic": _traffic,
        "the configuration": _configuration,
        "the versions": _versions,
    }
    parts = [part for name, make in made.items() for part in _made(name, make, record)]
    path = record.directory / "report.html"
    refresh = 0 if record.ended else _REFRESH_SECONDS
    page = Document(title(record), _made("the headline", _headline, record), parts, refresh)
    # The run and someone who follows it may render at the same time.
    write_whole(path, page.html(), rivals=True)
    return path


def _made(
    name: str, make: Callable[[RunRecord], Iterator[Part]], record: RunRecord
) -> Sequence[Part]:
    """Return a part of the report, or the sentence that says that it could not be made."""
    with only_warned(f"{name} in the report"):
        return list(make(record))
    sentence = f"{name[:1].upper()}{name[1:]} could not be made; the command's output says why."
    return [Note(sentence, "warning")]


def title(record: RunRecord) -> str:
    """Say: "A classifier of cat, horse and ship, learned from 540 images of 3 clients"."""
    names, examples = record.class_names, record.met.num_examples
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


def _headline(record: RunRecord) -> Iterator[Part]:
    """How good it is, where, whether post-training helped, and how the run ended."""
    summary, names = record.summary, record.class_names
    way, found = _way(record), _evidence(record)
    several = way.count("→") > way.count("selected")
    if record.completed and found.whole:
        yield from opening(found, names)
    elif record.completed and way:
        yield Note(reached(summary), "lead")
    else:
        yield Note(way or _nothing("accuracy", record), "lead")
    if said := helped(record):
        yield Note(said)
    for one in record.lost():
        if one.is_serious:
            yield Note(f"{_cut(one.sentence)}.", "warning")
    left_out = summary.get("left_out")
    for sentence in left_out if isinstance(left_out, list) else ():
        yield Note(f"Left out: {sentence}.", "warning")
    if several and record.completed:
        yield Note(f"From stage to stage: {way}", "way")
    start, end = record.latest(RunStarted), record.latest(RunEnded)
    facts = {
        "strategy": summary.get("strategy"),
        "after training": summary.get("post_training") or "nothing",
        "data set": summary.get("dataset"),
        "clients": summary.get("clients"),
        **_images(record),
        **privacy(summary),
        "seed": summary.get("seed"),
        "started": start and start.time,
        "status": record.status,
    }
    yield Facts({name: "unknown" if fact is None else str(fact) for name, fact in facts.items()})
    if not record.completed:
        reason = (end and end.reason) or summary.get("reason")
        said = f" The reason it gave: {_cut(str(reason))}" if reason else ""
        yield Note(
            f"Status: {record.status}. The report shows what the run's directory holds so far."
            + said,
            "warning",
        )
    for problem in record.problems:
        yield Note(problem, "warning")
    if (record.directory / "model" / "config.json").is_file():
        yield Note(
            "The model that was kept is in the folder model/ beside this page. Its README.md is "
            "its card; “fedf2dg predict” and “fedf2dg export” take the folder as it is."
        )
    elif record.completed:
        yield Note(
            "There is no folder model/ beside this page: the strategy has no global model, or the "
            "run was made by a version that kept none."
        )


def _way(record: RunRecord) -> str:
    """Return the accuracies of the stages: "81.0 % federated → 90.0 % distilled"."""
    ran = (stage for stage in stages(record.summary) if stage.accuracy is not None)
    return " → ".join(f"{percent(stage.accuracy)} {stage.name}" for stage in ran)


def _evidence(record: RunRecord) -> Evidence:
    found = (record.confusion(event.stage) for event in record.of(Evaluated))
    return Evidence.of(record.summary, [matrix for matrix in found if matrix is not None])


def _by_class(record: RunRecord) -> Iterator[Part]:
    found = _evidence(record)
    if record.completed and found.whole is not None:
        yield from details(found, record.class_names)


def _images(record: RunRecord) -> dict[str, str]:
    """How many images were trained on, and measured on by whom."""
    facts, examples = {}, record.met.num_examples
    if examples:
        facts["training images"] = f"{sum(examples):,.0f}"
    for stage in stages(record.summary):
        if stage.by in MEASURED_ON and stage.images:
            facts[stage.on] = f"{stage.images:,}"
    judged = number(mapping(record.summary.get("judged")).get("images"))
    if judged:
        facts[MEASURED_ON["clients"]] = f"{judged:,.0f}"
    return facts


def _results(record: RunRecord) -> Iterator[Part]:
    ran = [stage.name for stage in stages(record.summary) if stage.ran]
    explained = " ".join(f"{name}: {EXPLAINED[name]}." for name in ran if name in EXPLAINED)
    notes = [
        "Accuracy is that of the last round or epoch of a stage. “Best on test” is the highest "
        "value met on the way on the test images, chosen on them: it serves comparison with papers "
        "that report it, not as a result.",
        "An interval says what other images of the same kind would give, 19 times out of 20. That "
        "of a gain is wider than needed, since it takes the two models to have seen different "
        "images. None of them says what another seed would give.",
    ]
    found = stages(record.summary)
    if said := measured_sentence(record.summary):
        notes.insert(0, f"{said}.")
    notes += [f"Time of the stage “{stage.name}”: {stage.parts}." for stage in found if stage.parts]
    skipped = [s.name for s in found if s.accuracy is None and s.by != "nobody"]
    if skipped and record.completed:
        notes.append(f"Not part of this run: {', '.join(skipped)}.")
    lead = [Note(explained)] if explained else []
    table = stage_table(record.summary)
    yield Section("Results", [*lead, table, *(Note(note, "note") for note in notes)])


def _judgements(record: RunRecord) -> Iterator[Part]:
    yield from judgements_table(record).section(_what_was_judged(record))
    said, table = own_layers(record.summary)
    yield from table.section(said)


def _what_was_judged(record: RunRecord) -> str:
    steps = {candidate.step for event in record.of(Judged) for candidate in event.candidates}
    compared = "the model kept so far and the stage's result"
    way = ""
    if between := len(steps - {0.0, 1.0}):
        compared += f", and {counted(between, 'model')} between them,"
        way = " λ says how far towards the result the kept model lies."
    return (
        f"Every client evaluates {compared} on images that it holds out: nothing was trained, "
        f"counted or inverted on these.{way} In the verdict, ± is half the 95 % interval of the "
        "difference, image by image. Test images have no part in it."
    )


def _diagnosis(record: RunRecord) -> Iterator[Part]:
    found = json_in(record.directory / DIAGNOSIS).get("ceilings")
    yield from ceilings_table(found).section(_DIAGNOSIS)


def _generation(record: RunRecord) -> Table:
    columns: Columns[ImagesMade] = {
        "samples": lambda made: made.kind,
        "competition round": lambda made: amount(made.competition_round),
        "batch": lambda made: amount(made.batch),
        "images": lambda made: amount(made.images),
        "per client": lambda made: _range([budget for budget in made.budgets if budget]),
        "iterations": lambda made: amount(made.iterations),
        "objective": lambda made: None if made.objective is None else f"{made.objective:.4g}",
        "time": lambda made: duration(made.seconds),
        "image iterations/s": lambda made: amount(
            (made.images or 0) * (made.iterations or 0) / made.seconds if made.seconds else None
        ),
    }
    title = "Generation of pseudo images"
    return Table.of(title, columns, record.of(ImagesMade), rest_in="metrics.jsonl")


def _nothing(what: str, record: RunRecord) -> str:
    return f"No {what} was measured." if record.completed else f"No {what} measured yet."


def _accuracy(record: RunRecord) -> Iterator[Part]:
    heading = "Accuracy over the run"
    measured = record.measurements()
    if not measured:
        if not record.completed:  # else it had no rounds, and what it reached stands above
            yield Section(heading, [Note(_nothing("accuracy", record))])
        return
    means = {
        "federated": "federated rounds",
        "distillation": "epochs of the first distillation",
        "competition": "competition rounds, each of them one federated round from the distilled "
        "model (where clients are retrained), then hard samples and distillation",
    }
    axes = [meaning for stage, meaning in means.items() if any(m.stage == stage for m in measured)]
    caption = "Accuracy of the global model"
    caption += f"; each stage has its own axis: {', '.join(axes)}" if len(axes) > 1 else ""
    caption += ". The value above is the last measurement of the stage."
    classes, whole = len(record.class_names), _evidence(record).whole
    chance = None if whole is None else scores.guessing(whole)
    if chance is not None:
        caption += f" Always answering the most frequent class gives {percent(chance)}."
    elif classes > 1:
        chance = 1 / classes
        caption += f" Guessing among {classes} classes of equal size gives {percent(chance)}."
    drawn = figures.curves({"": [measured]}, chance)
    svg = figures.to_svg(drawn, "accuracy", f"Line chart of accuracy over the run: {_way(record)}.")
    yield Section(heading, [Picture(svg, caption)])


def _clients(record: RunRecord) -> Iterator[Part]:
    counts, examples = record.label_counts(), record.met.num_examples
    if counts:
        empty = sum(value == 0 for row in counts for value in row) / (len(counts) * len(counts[0]))
        described = (
            f"Heat map of the number of training images per client and class: {len(counts)} "
            f"clients, {len(counts[0])} classes, {100 * empty:.0f} % of the cells empty."
        )
        drawn = figures.label_counts(counts, record.class_names, record.met.names)
        caption = (
            "Training images per client (row) and class (column), as the clients reported them; "
            "empty cells hold none. The colour scale is that of square roots, so that small counts "
            "show."
        )
        held: Part = Picture(figures.to_svg(drawn, "label-counts", described), caption)
    elif examples:
        held = Note(
            f"{counted(len(examples), 'client')} with {sum(examples):,.0f} training images in all, "
            f"{min(examples):,.0f} to {max(examples):,.0f} each. Label counts were not sent to the "
            f"server ({_why_uncounted(record)}), so they cannot be shown."
        )
    else:
        held = Note("Not reported." if record.ended else "Not reported yet.")
    parts, table = [held], clients_table(record)
    if table.rows:
        parts += [Heading("Accuracy by client, on its own held-out images"), table]
    tested, _ = read_test_images(record.directory, record.class_names)
    if record.completed and tested is not None:
        parts += [Heading("The model at each site, on the site's own test images"), tested]
    yield Section("What the clients hold", parts)


def _why_uncounted(record: RunRecord) -> str:
    settings = record.configuration
    if settings.get("generation.place") == "client":
        return "generation.place=client: the clients invert the models, and need not tell them"
    if settings.get("label-counts"):
        return f"label-counts={settings['label-counts']}"
    return "the run's settings are not known"


def _pseudo_images(record: RunRecord) -> Iterator[Part]:
    """The first common samples, and the last hard ones."""
    sets = list(stored_sets(record.directory))
    if record.completed and not sets and not record.of(ImagesMade):
        return  # nothing after training made any
    parts: list[Part] = [Note(_PSEUDO_IMAGES if sets else "No pseudo images stored.")]
    shown = sets[:1] + [s for s in sets[1:] if s[0] != sets[0][0]][-1:]
    for kind, competition_round in shown:
        try:
            grid = read_grid(record.directory, kind, competition_round)
        except PseudoDataError as error:
            parts.append(Note(f"{str(error)[:1].upper()}{_cut(str(error)[1:])}.", "warning"))
            continue
        drawn = grid.figure(record.class_names, record.met.names)
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
        parts.append(Picture(figures.to_svg(drawn, name, described), caption))
    if len(sets) > len(shown):
        parts.append(Note(f"{len(sets)} sets are stored; {len(shown)} are shown.", "note"))
    made = _generation(record)
    yield Section("Generated images", [*parts, *([made] if made.rows else [])], long=True)


def _confusion(record: RunRecord) -> Iterator[Part]:
    heading = "Classes, before and after post-training"
    titles = {"federated": "federated (before)", "distilled": "distilled (after)"}
    measured = dict.fromkeys(("federated", "distilled", "competed"))
    measured |= dict.fromkeys(event.stage for event in record.of(Evaluated))
    found = {stage: matrix for stage in measured if (matrix := record.confusion(stage)) is not None}
    matrices = {titles.get(stage, stage): matrix for stage, matrix in found.items()}
    parts: list[Part] = [_recalls(matrices, record.class_names)] if matrices else []
    whole = _evidence(record).whole
    if not matrices and whole is not None and whole.confusion is not None:
        # The server has no test images: what the clients said of the model that was kept.
        heading, matrices = "Which classes are taken for which", {"kept": whole.confusion.tolist()}
    if not matrices:
        yield Section(heading, [Note(_nothing("confusion matrix", record))])
        return
    svg = figures.to_svg(
        figures.confusion_matrices(matrices, record.class_names),
        "confusion",
        f"Confusion matrices, {', '.join(matrices)}: true classes in rows, predicted ones in "
        "columns.",
    )
    caption = (
        "Images by true class (row) and predicted class (column). Colour is the share of a "
        "row, numbers are images; the diagonal is right, and a full column off it is a class the "
        "model predicts too often."
    )
    parts.append(Picture(svg, caption))
    wanted = titles if set(measured) <= set(STAGES) else ("federated",)
    if found and (missing := [stage for stage in wanted if stage not in found]):
        parts.append(Note(f"Not measured: {', '.join(missing)}.", "note"))
    yield Section(heading, parts)


def _recalls(matrices: Mapping[str, Sequence[Sequence[float]]], names: Sequence[str]) -> Table:
    def recall(matrix: Sequence[Sequence[float]], label: int) -> str | None:
        images = sum(matrix[label])
        return percent(matrix[label][label] / images) if images else None

    first = next(iter(matrices.values()))
    columns: Columns[int] = {
        "class": lambda label: named(names, label),
        "test images": lambda label: amount(sum(first[label])),
        **{f"recall, {stage}": partial(recall, matrix) for stage, matrix in matrices.items()},
    }
    return Table.of("Recall of each class", columns, range(len(first)), rest_in="metrics.jsonl")


def _wrong_images(record: RunRecord) -> Iterator[Part]:
    if record.completed:
        yield from read_test_images(record.directory, record.class_names)[1]


def _dropped(record: RunRecord) -> Iterator[Part]:
    heading = "Dropped clients"
    columns: Columns[tuple[Lost, str, Sequence[int]]] = {
        "client": lambda row: row[0].who,
        "rounds": lambda row: spans(row[2]),
        "how many": lambda row: f"{len(row[2])} of {row[0].last}",
        "reason": lambda row: Cell(_cut(row[1]), "any"),
    }
    rows = ((one, *reason) for one in record.lost() for reason in one.reasons.items())
    table = Table.of(heading, columns, rows, words=(0, 1, 3), rest_in="metrics.jsonl")
    none = Section(heading, [Note("None: every reply that came was used.")])
    yield from table.section(long=True) or [none]


def _traffic(record: RunRecord) -> Iterator[Part]:
    """Bytes on the wire: by kind, or of the rounds of a run that has not ended."""
    heading = "Bytes between server and clients"
    sizes = {kind: mapping(of) for kind, of in mapping(record.summary.get("traffic")).items()}
    if not sizes and (rounds := record.of(RoundDone)):
        down, up = (
            sum(size or 0 for size in sizes)
            for sizes in zip(*((event.bytes_down, event.bytes_up) for event in rounds), strict=True)
        )
        sizes = {"rounds so far": {"bytes_down": down, "bytes_up": up}} if down or up else {}
    columns: Columns[str] = {
        "of": str,
        "to the clients": lambda kind: size_in_words(number(sizes[kind].get("bytes_down")) or 0),
        "from the clients": lambda kind: size_in_words(number(sizes[kind].get("bytes_up")) or 0),
    }
    none = Section(heading, [Note("Not measured in this run.")])
    yield from Table.of(heading, columns, sizes).section("All clients together.") or [none]


def _configuration(record: RunRecord) -> Iterator[Part]:
    aside = () if record.met.simulated else _SIMULATION
    keys = {key: value for key, value in record.configuration.items() if key not in aside}
    yield keys_section("Configuration", keys)


def _versions(record: RunRecord) -> Iterator[Part]:
    device = {"device": record.device} if record.device else {}
    yield keys_section("Versions", {**device, **record.versions})


def keys_section(title: str, settings: Mapping[str, object]) -> Section:
    """Return names and values as a section of a page."""
    if not settings:
        return Section(title, [Note("config.json holds none.")])
    values = (v if isinstance(v, str) else json.dumps(v) for v in settings.values())
    rows = [*zip(settings, values, strict=True)]
    return Section(title, [Table(title, [], rows, words=(0, 1))], long=True, columns=True)


def _cut(content: str) -> str:
    """Shorten what a client may have made arbitrarily long."""
    return content if len(content) <= _MOST_LETTERS else content[: _MOST_LETTERS - 1] + "…"


def _range(values: Sequence[int]) -> str | None:
    """Write "3", or "3 to 5"; None of nothing."""
    ends = sorted({min(values), max(values)}) if values else ()
    return " to ".join(f"{end:,}" for end in ends) or None
