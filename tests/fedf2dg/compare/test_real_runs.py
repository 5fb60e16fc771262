"""Comparisons of real, tiny runs: shared stages, resume, failures, what is written."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedf2dg.cli import main
from fedf2dg.compare.comparison import compare
from fedf2dg.simulation.local_run import run_locally
from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from tests.made_up_runs import events_in

PLAN = """
    [plan]
    title = "Tiny $1 & <two>"
    [variant.plain]
    [variant."T | 1"]
    distillation.temperature = 1.0
    [variant.early]
    stages = "train,generate,distil"
    [variant.impossible]
    min-partition-size = 1000
"""


@dataclass
class Made:
    """A comparison that was made."""

    directory: Path
    plan: Path
    arguments: list[str]
    status: int

    def again(self) -> list[str]:
        """Make it again, and return the lines it said."""
        lines: list[str] = []
        compare([self.plan], self.arguments, output=self.directory, jobs=1, say=lines.append)
        return lines

    def run(self, label: str) -> Path:
        """Return a run directory by the beginning of its name."""
        (found,) = (self.directory / "runs").glob(f"{label}-s*")
        return found

    def summary(self, label: str) -> dict[str, dict[str, float]]:
        content: dict[str, dict[str, float]] = json.loads(
            (self.run(label) / "summary.json").read_text()
        )
        return content


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> Iterator[Made]:
    """Make one comparison through the command line, one of whose cells cannot be."""
    folder = tmp_path_factory.mktemp("comparison")
    plan = folder / "plan.toml"
    plan.write_text(PLAN, "utf-8")
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    output = folder / "out"
    arguments = [*tiny, "seed=0"]
    status = main(
        ["compare", "--config", str(plan), "--output", str(output), "--jobs", "2", *arguments]
    )
    yield Made(output, plan, arguments, status)
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before


def test_a_cell_that_shares_stages_has_the_result_of_a_whole_run(
    made: Made, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    events = events_in(made.run("T-1") / "metrics.jsonl")
    assert json.loads((made.run("T-1") / "config.json").read_text())["configuration"]["stages"] == (
        "distil,compete"
    )
    assert [event["event"] for event in events].count("start") == 1
    values = {name: json.loads(value) for name, value in (pair.split("=") for pair in tiny)}
    values |= {"distillation.temperature": 1.0, "output-dir": str(tmp_path / "whole")}
    whole = run_locally(preflight.parse(values))
    for name in ("accuracy", "best_on_test"):
        assert made.summary("T-1")[name] == whole[name]
    measured = [event["accuracy"] for event in events if "accuracy" in event]
    assert measured == [
        event["accuracy"]
        for event in events_in(tmp_path / "whole" / "metrics.jsonl")
        if "accuracy" in event
    ]


def test_a_failed_cell_is_reported_and_the_others_go_on(made: Made) -> None:
    assert made.status == 1
    rows = list(csv.DictReader((made.directory / "comparison.csv").open(encoding="utf-8")))
    assert [row["status"] for row in rows] == ["completed", "completed", "completed", "refused"]
    assert "min-partition-size" in rows[3]["reason"] or "1000" in rows[3]["reason"]
    assert rows[3]["accuracy_federated"] == ""
    assert "No result for impossible, seed 0" in (made.directory / "comparison.md").read_text()


def test_the_table_holds_what_the_runs_reached(made: Made) -> None:
    rows = list(csv.DictReader((made.directory / "comparison.csv").open(encoding="utf-8")))
    summary = made.summary("plain")
    (row,) = [row for row in rows if row["method"] == "plain"]
    for stage in ("federated", "distilled", "competed"):
        assert float(row[f"accuracy_{stage}"]) == summary["accuracy"][stage]
        assert float(row[f"best_on_test_{stage}"]) == summary["best_on_test"][stage]
    sent = [
        event["bytes_down"]
        for event in events_in(made.run("plain") / "metrics.jsonl")
        if event["event"] == "round"
    ]
    assert len(sent) == 2
    in_all = sum(counted["bytes_down"] for counted in summary["traffic"].values())
    assert float(row["bytes_down"]) == in_all >= sum(sent) > 0
    assert float(row["bytes_up_label_counts"]) == summary["traffic"]["label counts"]["bytes_up"] > 0
    assert float(row["accuracy_kept"]) == summary["accuracy"]["selected"]
    assert float(row["accuracy_last"]) == summary["accuracy"]["competed"]
    assert (made.directory / row["directory"] / "report.html").is_file()
    (early,) = [row for row in rows if row["method"] == "early"]
    assert early["accuracy_competed"] == "" and early["accuracy_federated"] != ""


def test_the_page_stands_alone_and_obeys_no_name(made: Made) -> None:
    page = (made.directory / "comparison.html").read_text("utf-8")
    assert "Tiny $1 &amp; &lt;two&gt;" in page
    assert page.count("<svg") == 3
    assert "src=" not in page and "http://" not in page.replace("http://www.w3.org", "")
    assert "One seed: no interval can be given" in page
    markdown = (made.directory / "comparison.md").read_text("utf-8")
    assert r"| T \| 1 | plain |" in markdown


def test_finished_cells_are_not_run_again(made: Made) -> None:
    before = {p: p.stat().st_mtime_ns for p in made.directory.glob("runs/*/summary.json")}
    lines = made.again()
    assert "to make: 1 run;" in lines[0]  # the impossible one
    assert before == {p: p.stat().st_mtime_ns for p in made.directory.glob("runs/*/summary.json")}


def test_interrupted_cells_go_on_where_they_stopped(made: Made) -> None:
    before = {label: made.summary(label)["accuracy"] for label in ("plain", "T-1")}
    for label in before:
        (made.run(label) / "summary.json").unlink()
        (made.run(label) / "checkpoints" / "finished").unlink()
    # One was broken off behind its first step; the other before, with nothing but what it copied
    # from the run it starts from.
    shutil.rmtree(sorted((made.run("T-1") / "checkpoints").glob("[0-9]*-*"))[-1])
    for folder in (made.run("plain") / "checkpoints").glob("[0-9]*-*"):
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["configuration"]["stages"] == "compete":
            shutil.rmtree(folder)
    log = made.directory / "logs" / f"{made.run('T-1').name}.log"
    log.unlink()
    made.again()
    assert {label: made.summary(label)["accuracy"] for label in before} == before
    assert "resuming behind step distil" in log.read_text()
    assert "federated round" not in log.read_text()


def test_methods_start_from_the_same_models_and_a_refused_one_is_shown(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    methods = "post-training=none,calibration+fedadi"
    small = ("fedadi.images=4", "fedadi.epochs=1")
    arguments = [*tiny, methods, *small, "model=resnet8,cnn"]
    assert compare([], arguments, output=tmp_path, jobs=1, say=lambda line: None) == 1
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open(encoding="utf-8")))
    status = {(row["post-training"], row["model"]): row["status"] for row in rows}
    assert status == {
        ("none", "resnet8"): "completed",
        ("none", "cnn"): "completed",
        ("calibration,fedadi", "resnet8"): "completed",
        ("calibration,fedadi", "cnn"): "refused",
    }
    trained = {row["accuracy_federated"] for row in rows if row["model"] == "resnet8"}
    assert len(trained) == 1 and "" not in trained
    assert len(list((tmp_path / "runs").glob("shared-train-*"))) == 2
    for row in rows:
        if row["model"] == "resnet8" and row["post-training"] != "none":
            assert float(row["images"]) == 4
            assert row["accuracy_last"] != "" != row["accuracy_kept"]
    refused = next(row for row in rows if row["status"] == "refused")
    assert "BatchNorm" in refused["reason"]
    page = (tmp_path / "comparison.md").read_text("utf-8")
    assert "## Recall of each class" in page and "class statistics" in page


def test_two_comparisons_do_not_work_in_one_directory(made: Made, tiny: tuple[str, ...]) -> None:
    from filelock import FileLock

    with (
        FileLock(made.directory / ".lock"),
        pytest.raises(ConfigurationError, match="another comparison"),
    ):
        compare([], [*tiny], output=made.directory)


def test_a_published_table_is_made_again(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.toml"
    shutil.copy(made.plan, table)
    published = (made.directory / "comparison.csv").read_text("utf-8")
    rows = list(csv.DictReader(published.splitlines()))
    (early,) = [row for row in rows if row["method"] == "early"]
    table.with_suffix(".csv").write_text(
        published.replace(early["division"], "0" * 16).replace("torch ", "torch 1+"), "utf-8"
    )
    arguments = ["compare", "--reproduce", str(table), "--output", str(made.directory)]
    assert main([*arguments, *made.arguments]) == 1  # the impossible cell has no result
    said = capsys.readouterr().out
    assert "difference" in said
    (line,) = [line for line in said.splitlines() if line.startswith("early  ")]
    reached = f"{100 * made.summary('early')['accuracy']['distilled']:.2f}"
    assert line.split()[1:5] == ["0", reached, reached, "+0.00"]
    assert "no" in line.split() and "yes" in line.split() and "torch 1+" in line
    assert "| early |" in (made.directory / "reproduction.md").read_text("utf-8")
