"""A run on a disk that fills up, or is closed, says what is saved and can go on."""

import errno
import logging
import os
from pathlib import Path

import pytest
import torch

from foundation.processes import ProcessDied
from server_app.checkpoints import Checkpoints
from server_app.run_directory import DiskError, machine_errors_explained


@pytest.mark.parametrize(
    ("number", "saves", "said"),
    [
        (errno.ENOSPC, 2, r"up to step train-0002. Free some space, then go on with resume-from="),
        (errno.EROFS, 0, r"No step .*Make it writable.* resume-from=.* output-dir=ANOTHER"),
    ],
)
def test_a_run_goes_on_from_what_it_says(
    tiny_run, result_in, monkeypatch, number: int, saves: int, said: str
) -> None:
    whole = tiny_run("whole", stages="train")
    save, done = Checkpoints.save, []

    def fails(checkpoints, checkpoint) -> None:
        if len(done) == saves:
            raise OSError(number, os.strerror(number), str(checkpoints.directory / ".x.partial"))
        done.append(1)
        save(checkpoints, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", fails)
        with pytest.raises(DiskError, match=said) as stopped:
            tiny_run("run", stages="train")
    directory = result_in("run").directory
    assert str(stopped.value).startswith(f"{directory / 'checkpoints'}: {os.strerror(number)}")
    again = tiny_run("run", stages="train", resume_from=str(directory))
    assert again.events("round") == whole.events("round")
    assert all(torch.equal(again.model()[name], value) for name, value in whole.model().items())


def test_a_run_that_had_not_begun_is_started_again(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskError, match=r"Nothing of the run is saved.*start it again"),
        machine_errors_explained(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "")


def test_a_process_that_died_says_what_is_saved(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / "0002-train-0002").mkdir(parents=True)
    with (
        pytest.raises(ProcessDied, match=r"memory\?\)\. The run is saved up to step train-0002\. "),
        machine_errors_explained(tmp_path),
    ):
        raise ProcessDied("its process ended (out of memory?)")


def test_whoever_interrupts_a_run_hears_how_to_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / "0001-train-0001").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), machine_errors_explained(tmp_path):
        raise KeyboardInterrupt
    said = f"saved up to step train-0001. Go on with resume-from={tmp_path}"
    assert said in caplog.text


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(KeyError), machine_errors_explained(tmp_path):
        raise KeyError("x")
