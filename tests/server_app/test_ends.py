"""How a run that does not complete ends, and who may work in a run's directory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from filelock import FileLock

import server_app.fedf2dg
from configuration import ConfigurationError
from reporting import follow
from server_app.checkpoints import CheckpointError
from tests.federated_data.tiny_files import pictures, write_folder


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
        patch.setattr(server_app.fedf2dg, "distil", break_off)
        with pytest.raises(type(error)):
            tiny_run("run")
    broken = result_in("run")
    (end,) = broken.events("end")
    assert (end["status"], end["reason"]) == (status, reason)
    lines: list[str] = []
    follow(broken.directory, say=lines.append, sleep=lambda seconds: None)
    assert lines[-1] == f"run {status}: {reason}"
    assert not (broken.directory / "summary.json").exists()

    resumed = tiny_run("run", resume_from=str(broken.directory))
    assert resumed.events() == whole.events()
    assert all(torch.equal(resumed.model()[name], value) for name, value in whole.model().items())


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
    once = tiny_run(
        "second",
        resume_from=str(first.directory),
        stages="compete",
        competition__rounds=1,
        generation__batches=2,
    )
    assert set(once.pseudo_data()) == set(first.pseudo_data()) - {"hard-c2-b0.safetensors"}
    less = tiny_run(
        "third",
        resume_from=str(first.directory),
        stages="generate",
        competition__rounds=2,
    )
    assert set(less.pseudo_data()) == {"common-c0-b0.safetensors"}
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
    with pytest.raises(ConfigurationError, match="replace the results of distil, compete-01-train"):
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


def test_a_simulation_goes_on_with_its_own_data_alone(tiny_run, tmp_path) -> None:
    for name, extra in (("images", 0), ("others", 5)):
        for part, count in (("train", 12 + extra), ("test", 4)):
            write_folder(
                tmp_path / name / part, {c: pictures(count, 1) for c in ("cat", "dog", "hen")}
            )
    data = {"dataset": "folder", "train_samples": 0, "min_partition_size": 2}
    run = tiny_run("run", stages="train", data_dir=str(tmp_path / "images"), **data)
    with pytest.raises(CheckpointError, match="Resume it with the data it was made with"):
        tiny_run(
            "run",
            resume_from=str(run.directory),
            stages="generate",
            data_dir=str(tmp_path / "others"),
            **data,
        )
    # The same images elsewhere are the same data.
    (tmp_path / "images").rename(tmp_path / "moved")
    tiny_run(
        "run",
        resume_from=str(run.directory),
        stages="generate",
        data_dir=str(tmp_path / "moved"),
        **data,
    )
