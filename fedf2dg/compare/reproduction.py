"""A published table made again: its plan, its figures, and by how much they differ today.

A published table is two files of one name: the plan (``NAME.toml``, what ``fedf2dg compare
--config`` reads) and what it gave (``NAME.csv``, the ``comparison.csv`` of that day).
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedf2dg.report.document import Row, Table
from foundation.settings.configuration import ConfigurationError
from foundation.wording import NONE

from .results import KEPT, LAST, MARKS, CellResult, Results

#: What a row of a published table must say to be compared with.
_NEEDED = ("method", "seed", f"accuracy_{LAST}")
_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Published:
    """The rows of a published table, by method and seed."""

    file: Path
    rows: Mapping[tuple[str, str], Mapping[str, str]]

    def row(self, result: CellResult) -> Mapping[str, str] | None:
        """Return what was published for a cell; None if nothing was."""
        return self.rows.get((result.cell.method.name, str(result.cell.seed)))


def read_published(plan: Path) -> Published:
    """Read the figures that stand beside a plan.

    Raises
    ------
    ConfigurationError
        If there are none, or the file is not a ``comparison.csv``.
    """
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
    return Published(file, {(row["method"], row["seed"]): row for row in rows})


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
        f"{published.file.stem}: published and today",
        header,
        list(_rows(published, results, judged)),
        words=(0, -3, -2, -1),
    )


def _rows(published: Published, results: Results, judged: bool) -> Iterator[Row]:
    for result in results.cells:
        before = published.row(result)
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


def _number(row: Mapping[str, str], stage: str) -> float | None:
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
