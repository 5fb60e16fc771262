"""The notebook runs from top to bottom, and shows what it says."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import matplotlib
import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "digits.ipynb"


def test_the_notebook_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    for cell in cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_reports")
def test_the_notebook_runs_and_the_accuracy_moves(monkeypatch, capsys):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(len(pyplot.gcf().axes)))
    names = ModuleType("notebook").__dict__
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    said = capsys.readouterr().out
    for word in ("federated", "distilled", "competed", "calibrated", "report.html"):
        assert word in said
    assert len(shown) == 2
    accuracy = names["summary"]["accuracy"]
    assert accuracy["distilled"] > accuracy["federated"]
    calibrated = names["calibrated"]["accuracy"]
    assert calibrated["federated"] == accuracy["federated"]
    assert calibrated["calibrated"] > accuracy["federated"]
