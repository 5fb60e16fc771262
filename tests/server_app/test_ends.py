"""How a run that does not complete ends, and who may work in a run's directory."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

import post_training.fedf2dg
from fedf2dg.report import follow
from foundation import write_whole
from foundation.events.log import MetricsFile
from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from server_app.checkpoints import CheckpointError
from server_app.run_directory import DiskError, settings_to_resume
from tests.foundation.data.tiny_files import pictures, write_folder


class Broken(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Broken("the disk is full"), "failed", "the disk is full"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_a_run_that_breaks_off_says_so_and_can_go_on(
    tiny_run, result_in, monkeypatch, error: BaseException, status: str, reason: str
) -> None:
    whole = tiny_run("whole")

    def break_off(*given: Any, **named: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(post_training.fedf2dg, "distil", break_off)
        with pytest.raises(type(error)):
            tiny_run("run")
    broken = result_in("run")
    (end,) = broken.events("end")
    assert (end["status"], end["reason"]) == (status, reason)
    assert not (broken.directory / "summary.json").exists()

    resumed = tiny_run("run", resume_from=str(broken.directory))
    assert resumed.events() == whole.events()
    assert all(torch.equal(resumed.model()[name], value) for name, value in whole.model().items())


def test_a_disk_that_fills_up_at_the_end_leaves_no_run_that_looks_complete(
    tiny_run, result_in, monkeypatch
) -> None:
    whole = tiny_run("whole", stages="train")

    def full(path: Path, content: str | bytes, **named: Any) -> None:
        if path.name == "summary.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_whole(path, content, **named)

    with monkeypatch.context() as patch:
        patch.setattr("server_app.run_directory.write_whole", full)
        with pytest.raises(DiskError, match=r"No space left .*up to step train-0003.*resume-from"):
            tiny_run("run", stages="train")
    broken = result_in("run")
    assert [event["status"] for event in broken.events("end")] == ["failed"]
    # Its stages are still those of the question that was asked.
    assert settings_to_resume(broken.directory)["stages"] == "train"
    resumed = tiny_run("run", stages="train", resume_from=str(broken.directory))
    assert resumed.events() == whole.events() and resumed.summary() == whole.summary()


def test_who_interrupts_the_writing_of_the_report_has_a_complete_run(
    tiny_run, result_in, monkeypatch, app_log
) -> None:
    def interrupted(directory: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedf2dg.report.live.write_report", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny_run("run", stages="train")
    run = result_in("run")
    assert run.summary()["status"] == "completed"
    assert [event["status"] for event in run.events("end")] == ["completed"]
    assert f"fedf2dg report {run.directory}" in app_log.text and "resume-from" not in app_log.text
    assert (run.directory / "model" / "README.md").is_file()
    assert not list(run.directory.rglob("*.partial"))


def test_who_follows_a_run_is_told_that_it_broke_off(tmp_path) -> None:
    endings = iter(["failed"])

    def break_off(_: float) -> None:
        for status in endings:
            metrics.append("end", status=status, reason="the disk is full")

    lines: list[str] = []
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics:
        metrics.append("round", round=1, phase="federated", accuracy=0.5, seconds=1.0)
        follow(tmp_path, say=lines.append, sleep=break_off)
    assert lines[-1] == "run failed: the disk is full"


def test_who_follows_a_run_that_had_broken_off_sees_it_resumed(tmp_path) -> None:
    steps = iter(
        [
            lambda: None,
            lambda: metrics.truncate(0),
            lambda: metrics.append("round", round=1, phase="federated", accuracy=0.5, seconds=1.0),
            lambda: metrics.append("end", status="interrupted", reason="again"),
            lambda: None,
        ]
    )
    lines: list[str] = []
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics:
        metrics.append("end", status="failed", reason="the disk is full")
        follow(tmp_path, say=lines.append, sleep=lambda seconds: next(steps)())
    assert lines[0] == "run failed: the disk is full"
    assert "goes on when the run is resumed" in lines[1]
    assert lines[-1] == "run interrupted: again"


def test_without_locks_a_run_is_made_all_the_same(tiny_run, monkeypatch, app_log) -> None:
    def no_locks(*_: Any, **__: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    assert tiny_run("run", stages="train").summary()["status"] == "completed"
    assert "cannot be locked" in app_log.text


def test_a_run_another_process_works_on_is_left_alone(tiny_run) -> None:
    run = tiny_run("run")
    before = {path: path.stat().st_mtime_ns for path in run.directory.rglob("*") if path.is_file()}
    with (
        FileLock(run.directory / ".lock"),
        pytest.raises(ConfigurationError, match="another process is working on the run"),
    ):
        tiny_run("run", resume_from=str(run.directory), stages="distil")
    after = {path: path.stat().st_mtime_ns for path in run.directory.rglob("*") if path.is_file()}
    before.pop(run.directory / ".lock", None)
    after.pop(run.directory / ".lock", None)
    assert after == before
    tiny_run("run", resume_from=str(run.directory), stages="distil")


def test_repeating_a_stage_forgets_its_former_images(tiny_run) -> None:
    first = tiny_run("first", competition__rounds=2, generation__batches=2)
    assert set(first.pseudo_data()) == {
        *(f"common-c0-b{batch}.safetensors" for batch in range(2)),
        *(f"hard-c{repetition}-b0.safetensors" for repetition in (1, 2)),
    }
    for name in ("of-a-hook.safetensors", "grid.png"):
        (first.directory / "pseudo_data" / name).touch()
    once = tiny_run(
        "second",
        resume_from=str(first.directory),
        stages="compete",
        competition__rounds=1,
        generation__batches=2,
    )
    left = {path.name for path in (once.directory / "pseudo_data").iterdir()}
    before = {path.name for path in (first.directory / "pseudo_data").iterdir()}
    assert left == before - {"hard-c2-b0.safetensors"}
    (first.directory / "pseudo_data" / "of-a-hook.safetensors").unlink()
    less = tiny_run(
        "third",
        resume_from=str(first.directory),
        stages="generate",
        competition__rounds=2,
    )
    assert set(less.pseudo_data()) == {"common-c0-b0.safetensors"}
    assert not (less.directory / "pseudo_data" / "grid.png").exists()  # drawn anew by a real run
    kept = tiny_run(
        "fourth",
        resume_from=str(first.directory),
        stages="distil",
        competition__rounds=2,
        generation__batches=2,
    )
    assert set(kept.pseudo_data()) == {f"common-c0-b{batch}.safetensors" for batch in range(2)}


def test_a_finished_run_is_not_overwritten_by_accident(tiny_run) -> None:
    whole = tiny_run("whole")
    before = whole.files(), whole.summary()
    keys = {"resume_from": str(whole.directory), "stages": "distil"}
    with pytest.raises(ConfigurationError, match="replace the results of distil, distil-judged"):
        tiny_run("whole", output_dir="", **keys)
    assert (whole.files(), whole.summary()) == before
    tiny_run("elsewhere", **keys)
    assert (whole.files(), whole.summary()) == before
    again = tiny_run("whole", **keys)  # its directory is named: that is meant
    assert again.summary()["accuracy"]["competed"] is None


def test_going_on_behind_a_finished_stage_needs_no_directory(tiny_run) -> None:
    trained = tiny_run("run", stages="train")
    tiny_run("run", output_dir="", resume_from=str(trained.directory), stages="generate")
    tiny_run("run", output_dir="", resume_from=str(trained.directory))
    assert trained.summary()["accuracy"]["competed"] is not None


def test_a_simulation_goes_on_with_its_own_data_alone(tiny_run, tmp_path, monkeypatch) -> None:
    for name, extra in (("images", 0), ("others", 5)):
        for part, count in (("train", 12 + extra), ("test", 4)):
            write_folder(
                tmp_path / name / part, {c: pictures(count, 1) for c in ("cat", "dog", "hen")}
            )
    data = {"dataset": "folder", "train_samples": 0, "min_partition_size": 2}
    run = tiny_run("run", data_dir=str(tmp_path / "images"), **data)
    before = {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()}
    checked_before_the_run = [True, False]  # by Flower's own command, only in it
    for checked in checked_before_the_run:
        with monkeypatch.context() as patch:
            if not checked:
                patch.setattr(preflight, "require_same_data", lambda *_: None)
            with pytest.raises(CheckpointError, match="Resume it with the data it was made with"):
                tiny_run(
                    "run",
                    resume_from=str(run.directory),
                    stages="generate",
                    data_dir=str(tmp_path / "others"),
                    **data,
                )
        after = {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()}
        assert {**after, run.directory / ".lock": b""} == {**before, run.directory / ".lock": b""}
    # The same images elsewhere are the same data.
    (tmp_path / "images").rename(tmp_path / "moved")
    tiny_run(
        "run",
        resume_from=str(run.directory),
        stages="generate",
        data_dir=str(tmp_path / "moved"),
        **data,
    )
