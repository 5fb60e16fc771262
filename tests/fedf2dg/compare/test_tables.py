"""Tables and figures of made-up results against numbers worked out by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fedf2dg.compare import Plan
from fedf2dg.compare.comparison_page import document, sections
from fedf2dg.compare.results import KEPT, LAST, PENDING, CellResult, Results, gains, to_csv
from fedf2dg.report import figures
from fedf2dg.report.document import Section, Table
from fedf2dg.report.run_record import STAGES, Measurement

ReadPlan = Callable[..., Plan]

# Accuracy of fedavg and moon under seeds 0, 1, 2, per stage; moon's third seed failed to compete.
REACHED: Mapping[str, tuple[tuple[float | None, ...], ...]] = {
    "fedavg": ((0.50, 0.60, 0.70), (0.60, 0.70, 0.80), (0.61, 0.71, 0.81)),
    "moon": ((0.51, 0.62, 0.73), (0.60, 0.70, 0.80), (0.70, 0.80, None)),
}


@pytest.fixture
def results(plan: ReadPlan, tmp_path: Path) -> Results:
    (tmp_path / "config.json").write_text('{"device": "cpu", "machine": "a machine"}')
    made = plan("strategy=fedavg,moon", "seed=0..2")

    def result(cell: object, seed: int, name: str) -> CellResult:
        last = {stage: REACHED[name][k][seed] for k, stage in enumerate(STAGES)}
        ran = [value for value in last.values() if value is not None]
        reached = {**last, LAST: ran[-1], KEPT: max(ran)}
        return CellResult(
            cell,  # type: ignore[arg-type]
            tmp_path,
            figures={
                **{f"accuracy_{stage}": value for stage, value in reached.items()},
                **{f"best_on_test_{s}": value and value + 0.02 for s, value in last.items()},
                **gains(reached),
                "seconds_federated": 10.0 + seed,
                "seconds_generation": 5.0,
                "seconds_distillation": 1.0,
                "seconds_sum": 16.0 + seed,
                "bytes_down": 2e6,
                "bytes_up": 1e6,
                "bytes_up_label counts": 800.0,
                "images": 640.0,
            },
            final_stage=STAGES[len(ran) - 1],
            judged=True,
            recall={"federated": [0.1 + 0.1 * seed, 1.0], LAST: [0.5, 0.5]},
            class_names=("cat", "dog"),
            measurements=(
                Measurement("federated", 1, 0.4),
                Measurement("federated", 2, last["federated"] or 0.0),
                Measurement("distillation", 1, last["distilled"] or 0.0),
            ),
        )

    return Results(made, tuple(result(cell, cell.seed, cell.method.name) for cell in made.cells))


def _section(results: Results, title: str) -> Section:
    (found,) = [section for section in sections(results) if section.title == title]
    return found


def _table(results: Results, title: str) -> Table:
    table = _section(results, title).parts[0]
    assert isinstance(table, Table)
    return table


def _notes(results: Results, title: str) -> str:
    return _section(results, title).markdown()


def _cells(table: Table, row: int) -> list[str]:
    return [cell.content for cell in table.cells(table.rows[row])]


def test_accuracies(results: Results) -> None:
    table = _table(results, "Test accuracy")
    assert list(table.header) == [
        "method",
        "seeds",
        "federated",
        "distilled",
        "competed",
        "last",
        "kept",
    ]
    assert _cells(table, 0)[:3] == ["fedavg", "3", "60.00 ± 10.00 %"]
    # moon competed under two seeds: 70 and 80
    assert _cells(table, 1)[4] == "75.00 ± 7.07 %"


def test_gains_over_own_models_stand_beside_the_accuracies(results: Results) -> None:
    assert "own models" not in _notes(results, "Test accuracy")
    moons = [r for r in results.cells if r.cell.method.name == "moon"]
    for result, gain in zip(moons, (0.01, 0.02, 0.03), strict=True):
        result.figures["gain_over_own_models"] = gain  # type: ignore[index]
    table = _table(results, "Test accuracy")
    assert table.header[-1] == "over own models"
    # 2 ± 4.3027 · 1 / √3; fedavg's runs were not compared
    assert [_cells(table, row)[-1] for row in (0, 1)] == ["–", "+2.00 [-0.48, +4.48]"]
    assert "“over own models” is" in _notes(results, "Test accuracy")
    assert "gain_over_own_models" in to_csv(results).splitlines()[0].split(",")


def test_what_no_run_has_makes_no_table(results: Results) -> None:
    """Runs without rounds have no federated model, nor anything measured on the way."""
    for result in results.cells:
        kept = {n: v for n, v in result.figures.items() if n in ("accuracy_last", "seconds_sum")}
        result.figures.clear()  # type: ignore[attr-defined]
        result.figures.update(kept)  # type: ignore[attr-defined]
    titles = {section.title for section in sections(results)}
    assert "Test accuracy" in titles
    assert titles.isdisjoint({"Gain over the federated model", "Best on test"})


def test_paired_differences(results: Results) -> None:
    table = _table(results, "Paired differences")
    assert len(table.rows) == 1
    # federated: +1, +2, +3 points: 2 ± 4.3027 · 1 / √3
    assert _cells(table, 0)[:3] == ["moon", "fedavg", "+2.00 [-0.48, +4.48]"]
    assert _cells(table, 0)[3] == "+0.00 [+0.00, +0.00]"
    # competed: +9 and +9 under the two seeds both have; too few to be marked
    assert _cells(table, 0)[4] == "+9.00 [+9.00, +9.00]"
    assert table.cells(table.rows[0])[4].kind == "number"
    said = "Only 2 common seeds in some rows: t is 12.7"
    assert said in _notes(results, "Paired differences")


def test_gains(results: Results) -> None:
    table = _table(results, "Gain over the federated model")
    # distilled less federated: fedavg 10, 10, 10; moon 9, 8, 7: 8 ± 2.48
    assert _cells(table, 0)[1] == "+10.00 [+10.00, +10.00]"
    assert _cells(table, 1)[1] == "+8.00 [+5.52, +10.48]"
    assert table.cells(table.rows[1])[1].kind == "number gain"


def test_best_on_test_is_labelled_and_its_advantage_shown(results: Results) -> None:
    table = _table(results, "Best on test")
    assert table.header[1:3] == ["federated, best on test", "over last"]
    assert _cells(table, 0)[1:3] == ["62.00 ± 10.00 %", "+2.00"]
    assert "not as a result" in _notes(results, "Best on test")


def test_costs(results: Results) -> None:
    assert _cells(_table(results, "Cost of a run"), 0) == [
        "fedavg",
        *("11.0 s", "5.0 s", "1.0 s", "17.0 s"),
        *("2.0", "1.0", "label counts 800 bytes", "640"),
    ]


def test_recall_of_each_class_before_and_after(results: Results) -> None:
    table = _table(results, "Recall of each class")
    assert list(table.header) == ["method", "cat", "dog"]
    assert _cells(table, 0) == ["fedavg", "20 → 50", "100 → 50"]


def test_csv_has_a_row_per_cell(results: Results) -> None:
    lines = to_csv(results).splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("method,strategy,seed,status,accuracy_federated")
    assert lines[1].startswith("fedavg,fedavg,0,completed,0.5,0.6,0.61,")


def test_page_and_markdown_say_the_same(results: Results) -> None:
    page, markdown = document(results).html(), document(results).markdown()
    for said in ("+2.00 [-0.48, +4.48]", "75.00 ± 7.07 %", "Only 2 common seeds", "a machine"):
        assert said in page and said in markdown
    assert page == document(results).html()


def test_a_comparison_without_results_says_so(plan: ReadPlan, tmp_path: Path) -> None:
    first, *others = plan("strategy=fedavg,moon", "seed=0,1").cells
    nothing = Results(
        plan("strategy=fedavg,moon", "seed=0,1"),
        (
            CellResult(first, tmp_path, "out of memory"),
            CellResult(others[0], tmp_path, "needs BatchNorm", refused=True),
            *(CellResult(cell, tmp_path, PENDING) for cell in others[1:]),
        ),
    )
    for said in (document(nothing).html(), document(nothing).markdown()):
        assert "No result for fedavg, seed 0: out of memory" in said
        assert "Not made yet: 2 of 4 cells." in said
    assert "No cell has a result yet." in document(nothing).html()
    assert [line.split(",")[3] for line in to_csv(nothing).splitlines()[1:]] == [
        "failed",
        "refused",
        "pending",
        "pending",
    ]


def test_many_methods_make_several_plots_with_the_baseline_in_each(
    plan: ReadPlan, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    made = plan("proximal-mu=0,1,2,3,4,5,6,7,8,9", baseline="proximal-mu=0.0")
    curve = (Measurement("federated", 1, 0.5),)
    reached = {"accuracy_federated": 0.5, f"accuracy_{LAST}": 0.5}
    many = Results(
        made,
        tuple(CellResult(c, tmp_path, figures=reached, measurements=curve) for c in made.cells),
    )
    page = document(many).html()
    assert page.count("Line charts of test accuracy") == 2
    assert page.count("run for proximal-mu=0.0, ") == 2


def test_more_lines_than_can_be_told_are_refused() -> None:
    curve = [[Measurement("federated", 1, 0.5)]]
    with pytest.raises(ValueError, match="8 methods in one plot"):
        figures.curves({str(k): curve for k in range(8)})
    with pytest.raises(ValueError, match="no measurements"):
        figures.curves({"a": [[]]})
