"""The story of a comparison: plan, runs, tables."""

import csv
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from filelock import FileLock, Timeout

from fedf2dg.compare.comparison_page import CELLS, document
from fedf2dg.compare.execution import Outcome, Workshop
from fedf2dg.compare.plan import Cell, Plan, Run, read_plan, share
from fedf2dg.compare.results import (
    KEPT,
    LAST,
    MARKS,
    PENDING,
    CellResult,
    Results,
    read_cell,
    to_csv,
)
from fedf2dg.report.document import Row, Table
from fedf2dg.report.run_record import STAGES
from fedf2dg.simulation import Engine
from foundation import counted, only_warned, write_whole
from foundation.processes import cores
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from foundation.wording import NONE, duration

_SECONDS_BETWEEN_TABLES = 20.0

Say = Callable[[str], None]


def compare(
    files: Sequence[Path],
    arguments: Iterable[str],
    *,
    engine: Engine = "local",
    jobs: int = 0,
    output: Path | None = None,
    baseline: str = "",
    reproduce: Path | None = None,
    say: Say = print,
) -> int:
    """Make the runs a comparison lacks (see :func:`read_plan`), and write its tables and figures.

    By default as many ``jobs`` go on at once as there are cores, where runs need no GPU and no
    engine that takes all cores itself; else one. The directory is by default
    ``outputs/compare-<name of the last file>``, or called after the varied keys. ``reproduce`` is
    the plan of a published table (:mod:`fedf2dg.compare.comparison`); what differs from it is
    said and written to ``reproduction.md``. Returns the number of cells without a result.
    ConfigurationError, before any run, if the plan is impossible or the directory is in use.
    """
    from server_app import preflight

    published = read_published(reproduce) if reproduce else None
    files = [*([reproduce] if reproduce else []), *files]
    plan = read_plan(files, arguments, preflight.parse, baseline)
    if jobs < 0:
        raise ConfigurationError(f"jobs = {jobs} must be at least 1")
    directory = (output or _default_directory(files, plan)).expanduser().absolute()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / ".lock", blocking=False):
            results = _carry_out(plan, directory, engine, jobs, say)
            if published:
                table = reproduction(published, results)
                say("\n" + table.terminal())
                write_whole(directory / "reproduction.md", table.markdown() + "\n")
            return len(results.failed)
    except Timeout as error:
        raise ConfigurationError(f"another comparison is working in {directory}") from error


def _carry_out(plan: Plan, directory: Path, engine: Engine, jobs: int, say: Say) -> Results:
    runs = share(plan.cells, engine)
    jobs = _at_once(jobs, engine, plan, len(runs))
    workshop = Workshop(directory, engine, jobs)
    missing = workshop.missing(runs)
    shared = sum(not run.cells for run in missing)
    say(
        f"{counted(len(plan.methods), 'method')}, {counted(len(plan.cells), 'cell')}; "
        f"to make: {counted(len(missing), 'run')}"
        + (f", {shared} of them for stages that cells share" if shared else "")
        + f"; {jobs} at once, processors for each: {max(1, cores() // jobs)}"
    )
    outcomes: dict[Run, Outcome] = {}
    written = time.monotonic()

    def done(run: Run, outcome: Outcome) -> None:
        nonlocal written
        outcomes[run] = outcome
        said, left = _said(run, outcome, workshop.place(run)), len(missing) - len(outcomes)
        took = [one.seconds for one in outcomes.values() if one.made and not one.reason]
        ahead = ""
        if left and took:  # at the mean pace of the runs so far
            ahead = f"; about {duration(fmean(took) * max(left / jobs, 1))} left"
        place = f"[{len(outcomes)}/{len(missing)}] {run.title}"
        say(f"{place}: {said}, {outcome.seconds:.0f} s{ahead}")
        if time.monotonic() - written > _SECONDS_BETWEEN_TABLES:
            _write(_collect(plan, runs, workshop, outcomes), directory)
            written = time.monotonic()

    try:
        workshop.make(missing, done)
    finally:
        results = _collect(plan, runs, workshop, outcomes)
        _write(results, directory)
    for result in results.failed:
        print(f"error: {result.cell.name}: {result.reason}", file=sys.stderr)
        log = directory / "logs" / f"{result.directory.name}.log"
        if log.exists():
            print(f"       log: {log}", file=sys.stderr)
    say((directory / "comparison.md").read_text("utf-8").split(f"\n## {CELLS}")[0].rstrip())
    say(f"comparison: {directory / 'comparison.html'}")
    return results


def _at_once(jobs: int, engine: Engine, plan: Plan, runs: int) -> int:
    import torch

    on_gpu = torch.cuda.is_available() and any(
        cell.configuration.device != "cpu" for cell in plan.cells
    )
    if not jobs:
        jobs = 1 if on_gpu or engine != "local" else cores()
    return max(1, min(jobs, runs))


def _collect(
    plan: Plan, runs: Iterable[Run], workshop: Workshop, outcomes: dict[Run, Outcome]
) -> Results:
    run_of: dict[int, Run] = {id(cell): run for run in runs for cell in run.cells}

    def result(cell: Cell) -> CellResult:
        run = run_of[id(cell)]
        place = workshop.place(run)
        if workshop.finished(run):
            return read_cell(cell, place)
        outcome = outcomes.get(run, Outcome())
        return CellResult(cell, place, outcome.reason or PENDING, outcome.refused)

    return Results(plan, tuple(result(cell) for cell in plan.cells))


def _write(results: Results, directory: Path) -> None:
    for name, render in (
        ("comparison.csv", to_csv),
        ("comparison.md", lambda found: document(found).markdown()),
        ("comparison.html", lambda found: document(found).html()),
    ):
        # The runs are what took the time: a table that cannot be made does not end them.
        with only_warned(name):
            write_whole(directory / name, render(results))


def _default_directory(files: Sequence[Path], plan: Plan) -> Path:
    if files:
        return Path("outputs") / f"compare-{files[-1].stem}"
    varied = [name.rsplit(".", 1)[-1] for name in plan.varied()] or ["seed"]
    return Path("outputs") / f"compare-{'-'.join(varied[:3])}-{_what_is_common(plan)}"


def _what_is_common(plan: Plan) -> str:
    """Name the data and, by a few digits, what else all cells differ from the defaults in.

    More seeds or methods belong into the same tables; other settings into others.
    """
    settings, defaults = plan.cells[0].configuration.flat(), RunConfiguration().flat()
    aside = {"seed", "dataset", *plan.varied()}
    common = {
        name: value
        for name, value in settings.items()
        if name not in aside and value != defaults.get(name)
    }
    if not common:
        return str(settings["dataset"])
    digest = hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:6]
    return f"{settings['dataset']}-{digest}"


def _said(run: Run, outcome: Outcome, place: Path) -> str:
    """Say how a run ended, in the line that tells of it."""
    if outcome.reason:
        return f"{'refused' if outcome.refused else 'failed'}: {outcome.reason}"
    if not run.cells:
        return "done"
    result = read_cell(run.cells[0], place)
    reached = ((stage, result.accuracy(stage)) for stage in (*STAGES, LAST, KEPT))
    return " → ".join(f"{stage} {100 * v:.1f} %" for stage, v in reached if v is not None)


#: What a row of a published table must say to be compared with.
_NEEDED = ("method", "seed", f"accuracy_{LAST}")
_UNKNOWN = "not recorded"


#: The rows of a published table, by method and seed.
Published = Mapping[tuple[str, str], Mapping[str, str | None]]


def read_published(plan: Path) -> Published:
    """Read the figures that stand beside a plan, a ``comparison.csv`` (ConfigurationError)."""
    file = plan.with_suffix(".csv")
    try:
        rows = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"no figures were published with {plan}: {file} is missing. They are the "
            "comparison.csv of a finished comparison of that plan"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from error
    if not rows or not all(row.get(name) is not None for row in rows for name in _NEEDED):
        raise ConfigurationError(
            f"{file} is not the comparison.csv of a comparison: its columns must include "
            f"{', '.join(_NEEDED)}"
        )
    # What the division's digest was called once, like the key that may have a column of its own.
    return {(row["method"], row["seed"]): {MARKS[0]: row.get("partition"), **row} for row in rows}


def reproduction(published: Published, results: Results) -> Table:
    """Return the published accuracies beside today's, one row for each cell of both.

    Differences are today's less the published one, in percentage points. Where the same images
    went to the same clients and the kept model is the same to the last bit, the table says so:
    other processors and other versions round sums differently, and training enlarges that.
    """
    header = ["method", "seed", "published", "today", "difference"]
    judged = any(result.judged for result in results.cells)
    header += ["kept, published", "kept, today"] if judged else []
    header += ["same division", "same weights", "versions"]
    return Table(
        "Published and today",
        header,
        list(_rows(published, results, judged)),
        words=(0, -3, -2, -1),
    )


def _rows(published: Published, results: Results, judged: bool) -> Iterator[Row]:
    for result in results.cells:
        before = published.get((result.cell.method.name, str(result.cell.seed)))
        if before is None:
            continue
        kept = [_percent(_number(before, KEPT)), _percent(result.accuracy(KEPT))] if judged else []
        yield [
            result.cell.method.name,
            str(result.cell.seed),
            _percent(_number(before, LAST)),
            result.status if result.reason else _percent(result.accuracy(LAST)),
            _difference(_number(before, LAST), result.accuracy(LAST)),
            *kept,
            *(_same(before.get(mark), result.marks.get(mark)) for mark in MARKS[:-1]),
            _versions(before.get(MARKS[-1]), result.marks.get(MARKS[-1])),
        ]


def _number(row: Mapping[str, str | None], stage: str) -> float | None:
    text = row.get(f"accuracy_{stage}")
    return float(text) if text else None


def _percent(accuracy: float | None) -> str | None:
    return None if accuracy is None else f"{100 * accuracy:.2f}"


def _difference(before: float | None, today: float | None) -> str | None:
    return None if before is None or today is None else f"{100 * (today - before):+.2f}"


def _same(before: str | None, today: str | None) -> str:
    if not before or not today:
        return _UNKNOWN
    return "yes" if before == today else "no"


def _versions(before: str | None, today: str | None) -> str:
    if not before or not today:
        return _UNKNOWN
    then = dict(item.split(" ", 1) for item in before.split("; "))
    now = dict(item.split(" ", 1) for item in today.split("; "))
    changed = [
        f"{name} {then.get(name, NONE)} to {now.get(name, NONE)}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    return ", ".join(changed) or "the same"
