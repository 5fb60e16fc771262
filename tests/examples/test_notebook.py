"""The notebooks run from top to bottom, and show what they say."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def cells_of(notebook: Path) -> list[dict[str, Any]]:
    return json.loads(notebook.read_text("utf-8"))["cells"]


@pytest.fixture
def run_notebook(monkeypatch, drawn_reports):
    """Return what runs a notebook, and gives its names and the number of pictures it shows."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(len(pyplot.gcf().axes)))

    def run(name: str) -> tuple[dict[str, Any], int]:
        names = ModuleType("notebook").__dict__
        for cell in cells_of(EXAMPLES / name):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), name, "exec"), names)
        return names, len(shown)

    return run


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(notebook):
    for cell in cells_of(notebook):
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_of_digits_runs_and_the_accuracy_moves(run_notebook, capsys):
    names, pictures = run_notebook("digits.ipynb")
    said = capsys.readouterr().out
    for word in ("federated", "distilled", "competed", "calibrated", "report.html"):
        assert word in said
    assert pictures == 2
    accuracy = names["summary"]["accuracy"]
    assert accuracy["distilled"] > accuracy["federated"]
    calibrated = names["calibrated"]["accuracy"]
    assert calibrated["federated"] == accuracy["federated"]
    assert calibrated["calibrated"] > accuracy["federated"]


@pytest.mark.slow
def test_the_notebook_of_photographs_ends_with_a_model_that_the_clients_kept(
    run_notebook, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    names, pictures = run_notebook("photographs.ipynb")
    said = capsys.readouterr().out
    assert "kept: head" in said and "report.html" in said
    assert pictures == 1
    assert names["summary"]["accuracy"]["selected"] > 0.5
