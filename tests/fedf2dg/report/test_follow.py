"""Watching a run: every event once, the report kept up, an end with the run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedf2dg.report import follow
from foundation.events.log import MetricsFile
from foundation.progress import PROGRESS

pytestmark = pytest.mark.usefixtures("drawn_reports")


def _sleeper(steps: Iterator[Callable[[], None]]) -> Callable[[float], None]:
    """Let the run do its next step while the watcher sleeps."""
    return lambda seconds: next(steps)()


def test_a_run_is_followed_from_before_its_start_to_its_end(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    reports: list[str] = []

    def begin() -> None:
        with MetricsFile(directory / "metrics.jsonl") as metrics:
            metrics.append("start", time="now", strategy="moon", dataset="digits", seed=3)
            metrics.append("round", round=1, phase="federated", accuracy=0.5, seconds=2.0)

    def go_on() -> None:
        reports.append((directory / "report.html").read_text("utf-8"))
        with MetricsFile(directory / "metrics.jsonl") as metrics:
            metrics.append("round", round=2, phase="federated", accuracy=0.75, seconds=2.0)

    def end() -> None:
        reports.append((directory / "report.html").read_text("utf-8"))
        with MetricsFile(directory / "metrics.jsonl") as metrics:
            metrics.append("end", status="completed")

    def summarize() -> None:
        content = {"status": "completed", "accuracy": {"federated": 0.75}}
        (directory / "summary.json").write_text(json.dumps(content))

    lines: list[str] = []
    report = follow(
        directory, say=lines.append, sleep=_sleeper(iter([begin, go_on, end, summarize]))
    )
    assert lines == [
        f"waiting for a run in {directory}",
        "moon on digits, seed 3, started now",
        "federated round 1: accuracy 50.00 %, 2.0 s",
        "federated round 2: accuracy 75.00 %, 2.0 s",
        "run completed",
    ]
    assert "50.0 % federated" in reports[0] and "75.0 % federated" in reports[1]
    assert "unfinished" in reports[1]
    # A browser loads the report of a running run again by itself.
    assert all('<meta http-equiv="refresh" content="10">' in report for report in reports)
    final = report.read_text("utf-8")
    assert "completed" in final and "unfinished" not in final
    assert 'http-equiv="refresh"' not in final
    assert not list(directory.glob(".*.partial"))


def test_a_finished_run_is_told_at_once(write_run: Callable[..., Path], tmp_path: Path) -> None:
    lines: list[str] = []
    report = follow(write_run(tmp_path, epochs=2, rounds=2), say=lines.append, sleep=_never)
    assert report.is_file()
    assert lines[0].startswith("scaffold on digits") and lines[-1] == "run completed"
    assert any(line.startswith("640 hard samples generated") for line in lines)


def test_events_that_a_resumed_run_took_back_are_said_again(tmp_path: Path) -> None:
    lines: list[str] = []

    def resume() -> None:
        with MetricsFile(tmp_path / "metrics.jsonl") as metrics:
            metrics.truncate(0)
            metrics.append("round", round=1, phase="federated", accuracy=0.25)

    with MetricsFile(tmp_path / "metrics.jsonl") as metrics:
        metrics.append("round", round=1, phase="federated", accuracy=0.5)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(tmp_path, say=lines.append, sleep=_sleeper(iter([resume, stop])))
    assert lines == [
        "federated round 1: accuracy 50.00 %",
        "the run was resumed from an earlier step",
        "federated round 1: accuracy 25.00 %",
    ]


def test_progress_inside_a_stage_is_told_as_it_changes(tmp_path: Path) -> None:
    lines: list[str] = []
    seen: list[str] = []
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics:
        metrics.append("round", round=2, phase="federated", accuracy=0.5, seconds=3.0)
    config = {"configuration": {"num-server-rounds": 4}}
    (tmp_path / "config.json").write_text(json.dumps(config))

    def progress(content: str) -> Callable[[], None]:
        return lambda: seen.append(content) or (tmp_path / PROGRESS).write_text(content)

    def stop() -> None:
        raise KeyboardInterrupt

    written = ["inversion: 1/4 images\n", "inversion: 1/4 images\n", "inver", "inversion: 3/4\n"]
    steps = [*map(progress, written), (tmp_path / PROGRESS).unlink, stop]
    with pytest.raises(KeyboardInterrupt):
        follow(tmp_path, say=lines.append, sleep=_sleeper(iter(steps)))
    assert seen == written
    assert lines == [
        "federated round 2: accuracy 50.00 %, 3.0 s, 2 of 4 rounds, 6.0 s left",
        "inversion: 1/4 images",
        "inversion: 3/4",
    ]


def _never(seconds: float) -> None:
    raise AssertionError("nothing to wait for")
