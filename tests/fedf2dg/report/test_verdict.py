"""The two sentences at the top of a report say what the run's numbers say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedf2dg.report import RunRecord
from fedf2dg.report.verdict import title, verdict
from foundation.intervals import difference_interval

WriteRun = Callable[..., Path]


def judged(run: Path, *verdicts: tuple[str, float, float, float], selected: str) -> RunRecord:
    """Add judgements to a run: stage, step, gain, standard error."""
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    rows = [
        {"stage": stage, "step": step, "gain": gain, "standard_error": error}
        for stage, step, gain, error in verdicts
    ]
    summary["judged"] = {"images": 60, "selected": selected, "verdicts": rows}
    summary["accuracy"]["selected"] = 0.75
    summary["measured"] = {"selected": {"by": "server", "images": 1600}}
    (run / "summary.json").write_text(json.dumps(summary))
    return RunRecord.read(run)


@pytest.mark.parametrize(
    ("verdicts", "selected", "said"),
    [
        ([("distilled", 1.0, 0.10, 0.02)], "distilled", "Post-training helped: +10.0 ± 3.9 points"),
        ([("distilled", 1.0, 0.03, 0.02)], "distilled", "Undecided whether post-training helped"),
        ([("distilled", 0.0, -0.1, 0.02)], "federated", "Post-training did not help"),
        # Only what was taken counts, and independent errors add in squares.
        (
            [("distilled", 1.0, 0.1, 0.03), ("hard", 0.0, -0.9, 0.1), ("competed", 0.5, 0.1, 0.04)],
            "competed",
            "Post-training helped: +20.0 ± 9.8 points",
        ),
    ],
)
def test_whether_post_training_helped(
    write_run: WriteRun, tmp_path: Path, verdicts: Any, selected: str, said: str
) -> None:
    sentence = verdict(judged(write_run(tmp_path / "run"), *verdicts, selected=selected))
    assert said in sentence
    assert "the clients' 60 held-out images" in sentence
    assert "It classifies 75.0 % of 1,600 test images of the server correctly." in sentence


def test_a_run_that_nobody_judged_says_what_it_reached(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    accuracy = json.loads((run / "summary.json").read_text())["accuracy"]["competed"]
    assert f"The model of competition classifies {100 * accuracy:.1f} %" in verdict(
        RunRecord.read(run)
    )


def test_a_stage_that_no_client_judged_is_compared_on_what_measured_it(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    summary["accuracy"] = {"federated": 0.5, "distilled": 0.6, "competed": None, "selected": 0.6}
    summary["measured"] = {"federated": {}, "distilled": {"by": "server", "images": 400}}
    (run / "summary.json").write_text(json.dumps(summary))
    sentence = verdict(RunRecord.read(run))
    low, high = (100 * end for end in difference_interval(0.6, 0.5, 400))
    assert sentence.startswith(
        "No client judged post-training: distillation changed the accuracy by +10.0 points "
        f"({low:+.1f} to {high:+.1f} at most) on 400 test images of the server."
    )


def test_the_baselines_are_not_called_what_they_are_not(
    write_run: WriteRun, tmp_path: Path
) -> None:
    named = {
        name: RunRecord.read(write_run(tmp_path / name, configuration={"strategy": name}))
        for name in ("local", "centralized")
    }
    assert verdict(named["local"]).startswith("The clients' own models classify ")
    assert title(named["centralized"]).endswith(" of 10 clients in one place")


def test_a_run_that_goes_on_has_no_verdict(write_run: WriteRun, tmp_path: Path) -> None:
    assert verdict(RunRecord.read(write_run(tmp_path / "run", stop_after="round 3"))) == ""


def test_what_was_learned_from_what(write_run: WriteRun, tmp_path: Path) -> None:
    few = write_run(
        tmp_path / "few",
        classes=3,
        clients=1,
        class_names=["cat", "dog", "owl"],
        configuration={"dataset": "folder"},
    )
    images = sum(RunRecord.read(few).examples_per_client())
    expected = f"A classifier of cat, dog and owl, learned from {images:,.0f} images of 1 client"
    assert title(RunRecord.read(few)) == expected
    many = RunRecord.read(write_run(tmp_path / "many", clients=7))
    assert title(many).startswith("A classifier of 10 classes (digits), learned from ")
    assert title(many).endswith(" of 7 clients")


def test_images_that_also_chose_the_model_are_called_so(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = judged(
        write_run(tmp_path / "run"), ("distilled", 1.0, 0.1, 0.02), selected="distilled"
    ).directory
    summary = json.loads((run / "summary.json").read_text())
    summary["measured"]["selected"] = {"by": "clients", "images": 60, "also_chose": True}
    (run / "summary.json").write_text(json.dumps(summary))
    said = "of 60 held-out images of the clients, which also chose it, correctly."
    assert said in verdict(RunRecord.read(run))
