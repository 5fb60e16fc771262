"""Tables of results, whatever is missing."""

from typing import Any

import pytest

from fedf2dg.report.document import Cell, Table
from fedf2dg.report.tables import stage_table, terminal_table
from foundation.wording import duration

SUMMARY: dict[str, Any] = {
    "accuracy": {"federated": 0.81, "distilled": 0.93, "competed": 0.95},
    "seconds": {
        "federated": 31.0,
        "generation": 20.0,
        "distillation": 5.0,
        "competition": 25.0,
        "total": 85.0,
    },
}


def test_the_terminal_table_of_a_whole_run() -> None:
    assert terminal_table(SUMMARY).splitlines() == [
        "stage      accuracy          gain  seconds",
        "-----------------------------------------------------------------------------------",
        "federated    81.0 %                   31.0",
        "distilled    93.0 %  +12.0 points     25.0  (generation 20.0 s, distillation 5.0 s)",
        "competed     95.0 %  +14.0 points     25.0",
        "-----------------------------------------------------------------------------------",
        "total                                 85.0",
    ]


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"accuracy": None, "seconds": None},
        {"accuracy": {"federated": None, "distilled": 0.9}, "seconds": {"total": None}},
        {"accuracy": {"federated": float("nan")}, "seconds": {"federated": "long"}},
        {"accuracy": [1, 2], "seconds": 3},
    ],
)
def test_the_terminal_table_of_whatever_is_there(summary: dict[str, Any]) -> None:
    table = terminal_table(summary)
    assert table.isascii()
    reached = ["distilled"] if "0.9" in str(summary) else []
    assert [line.split()[0] for line in table.splitlines() if "--" not in line] == [
        "stage",
        "federated",
        *reached,
        "total",
    ]
    assert "nan" not in table and "None" not in table and "points" not in table


def test_a_stage_that_did_not_run_has_no_row() -> None:
    trained = {"accuracy": {"federated": 0.8, "distilled": None, "competed": None, "selected": 0.8}}
    for table in (terminal_table(trained), stage_table(trained).html()):
        assert "federated" in table and "selected" in table
        assert "distilled" not in table and "competed" not in table


def test_a_run_without_rounds_has_no_row_of_them_and_the_kept_model_stands_last() -> None:
    accuracy = {"selected": 0.9, "head": 0.9, "federated": None}
    summary = {"rounds": 0, "accuracy": accuracy, "seconds": {"head": 5.0, "total": 6.0}}
    table = stage_table(summary)
    assert [row[0] for row in table.rows] == ["head", "selected"]
    assert list(table.header) == ["stage", "accuracy", "time"]  # nothing was gained over rounds
    assert list(table.footer) == ["whole run", "", "6.0 s"]
    rounds = stage_table({**summary, "rounds": 2})
    assert [row[0] for row in rounds.rows] == ["federated", "head", "selected"]


def test_a_loss_has_its_sign() -> None:
    worse = {"accuracy": {"federated": 0.8, "distilled": 0.75, "competed": None}}
    assert "-5.0 points" in terminal_table(worse)


def test_cells_are_escaped_and_headers_scoped() -> None:
    table = Table('"quoted"', ["a", "<b>"], [["<i>", Cell("&", "gain")]]).html()
    assert '<th scope="row">&lt;i&gt;</th><td class="number gain">&amp;</td>' in table
    assert '<th scope="col" class="number">&lt;b&gt;</th>' in table
    assert "&#34;quoted&#34;" in table
    assert "<thead>" in Table("", ["a"], []).html()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (0.04, "0.0 s"), (85, "85.0 s"), (725, "12 min 5 s"), (12_000, "3 h 20 min")],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
