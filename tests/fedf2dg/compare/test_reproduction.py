"""Published tables beside what their plans give today."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedf2dg.compare import Plan
from fedf2dg.compare.comparison import read_published, reproduction
from fedf2dg.compare.results import PENDING, CellResult, Results, to_csv
from foundation.settings.configuration import ConfigurationError

MARKS = {"division": "aa", "weights": "bb", "versions": "python 3.11; torch 2.11; code cc"}


@pytest.fixture
def results(plan: Callable[..., Plan]) -> Results:
    """Return results of two methods, of which the second is not made yet."""
    made = plan("strategy=fedavg,fedprox", "seed=3")
    first, second = made.cells
    return Results(
        made,
        (
            CellResult(first, Path("a"), figures={"accuracy_last": 0.5}, marks=MARKS),
            CellResult(second, Path("b"), PENDING),
        ),
    )


def published(folder: Path, *lines: str) -> Path:
    (folder / "table.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "table.toml"


@pytest.mark.parametrize("name", ["division", "partition"])  # the latter until November 2026
def test_differences_are_todays_less_the_published(
    tmp_path: Path, results: Results, name: str
) -> None:
    plan = published(
        tmp_path,
        f"method,seed,accuracy_last,{name},weights,versions",
        "fedavg,3,0.52,aa,zz,python 3.11; torch 2.9; ray 2",
        "fedprox,3,0.25,aa,bb,python 3.11",
        "fedavg,4,0.9,aa,bb,python 3.11",
    )
    table = reproduction(read_published(plan), results)
    changed = "torch 2.9 to 2.11, ray 2 to –, code – to cc"
    assert table.rows == [
        ["fedavg", "3", "52.00", "50.00", "-2.00", "yes", "no", changed],
        ["fedprox", "3", "25.00", "pending", None, "not recorded", "not recorded", "not recorded"],
    ]


def test_no_two_columns_have_one_name(plan: Callable[..., Plan]) -> None:
    made = plan("partition=dirichlet,iid", "seed=3")
    cells = tuple(CellResult(cell, Path("a"), PENDING) for cell in made.cells)
    names = to_csv(Results(made, cells)).splitlines()[0].split(",")
    assert "partition" in names and len(set(names)) == len(names)


def test_a_table_of_before_the_marks_says_so(tmp_path: Path, results: Results) -> None:
    plan = published(tmp_path, "method,seed,accuracy_last", "fedavg,3,0.5")
    (row,) = reproduction(read_published(plan), results).rows
    assert row == ["fedavg", "3", "50.00", "50.00", "+0.00", *["not recorded"] * 3]


@pytest.mark.parametrize(
    "lines", [(), ("method,seed",), ("name,seed,accuracy_last", "a,1,0.5"), ("method\x00,seed",)]
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, lines: tuple[str, ...]) -> None:
    plan = published(tmp_path, *lines)
    with pytest.raises(ConfigurationError, match=r"table\.csv"):
        read_published(plan)


def test_figures_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"other\.csv is missing"):
        read_published(tmp_path / "other.toml")
