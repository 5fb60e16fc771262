"""Train, generate, distil and compete on their own, as the original's four scripts were."""

import pytest
import torch

from foundation.settings.configuration import ConfigurationError
from server_app.checkpoints import CheckpointError

KEYS = {"strategy": "scaffold", "num_server_rounds": 2, "generation__batches": 2}


def test_four_invocations_equal_one_run(tiny_run, tmp_path):
    whole = tiny_run("whole", **KEYS)
    parted = tiny_run("parted", **KEYS, stages="train")
    assert parted.summary()["accuracy"]["federated"] is not None
    assert parted.summary()["accuracy"]["distilled"] is None
    for stage in ("generate", "distil", "compete"):
        parted = tiny_run("parted", **KEYS, stages=stage, resume_from=str(tmp_path / "parted"))
    for name, value in whole.model().items():
        assert torch.equal(parted.model()[name], value), name
    assert parted.summary() == whole.summary()
    assert parted.pseudo_data() == whole.pseudo_data()
    assert parted.events("end") == whole.events("end")
    kinds = ("round", "generation", "distillation", "evaluation", "clients")
    for kind in kinds:
        assert parted.events(kind) == whole.events(kind), kind


def test_a_stage_can_be_repeated_with_other_settings(tiny_run, tmp_path):
    """Distil a finished run anew with another weight, and what follows is gone."""
    first = tiny_run("run", **KEYS)
    distilled = first.summary()["accuracy"]["distilled"]
    again = tiny_run(
        "run", **KEYS, stages="distil", distillation__weight=5.0, resume_from=str(tmp_path / "run")
    )
    assert again.summary()["accuracy"]["competed"] is None
    assert again.summary()["accuracy"]["federated"] == first.events("round")[1]["accuracy"]
    assert distilled is not None
    assert not any("compete" in step for step in again.steps())
    direct = tiny_run("direct", **KEYS, stages="train,generate,distil", distillation__weight=5.0)
    assert all(torch.equal(again.model()[n], value) for n, value in direct.model().items())


def test_a_finished_stage_can_be_repeated_again_and_again(tiny_run, tmp_path):
    """Trying weights one after the other in one directory is what the stages are for."""
    tiny_run("run", **KEYS, stages="train,generate")
    losses = set()
    for weight in (1.0, 2.0, 4.0):
        run = tiny_run(
            "run",
            **KEYS,
            stages="distil",
            distillation__weight=weight,
            resume_from=str(tmp_path / "run"),
        )
        assert len(run.events("distillation")) == 2
        losses.add(run.events("distillation")[0]["loss"])
    assert len(losses) == 3


@pytest.mark.parametrize(
    ("have", "want", "needed"),
    [("train", "distil", "generate"), ("train", "compete", "distil")],
)
def test_a_stage_without_the_one_before_it_names_what_is_missing(
    tiny_run, tmp_path, have, want, needed
):
    tiny_run("run", **KEYS, stages=have)
    with pytest.raises(CheckpointError, match=needed):
        tiny_run("run", **KEYS, stages=want, resume_from=str(tmp_path / "run"))


def test_a_stage_behind_an_interrupted_one_says_so(tiny_run, tmp_path, monkeypatch):
    from server_app.run import Run

    commit = Run.commit

    def dying(run, step):
        commit(run, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "commit", dying)
    with pytest.raises(KeyboardInterrupt):
        tiny_run("run", **KEYS, stages="train")
    monkeypatch.setattr(Run, "commit", commit)
    with pytest.raises(CheckpointError, match="interrupted at 'train-0001'"):
        tiny_run("run", **KEYS, stages="generate", resume_from=str(tmp_path / "run"))


def test_a_stage_without_a_run_says_it_needs_one(tiny_run):
    with pytest.raises(ConfigurationError, match="needs resume-from"):
        tiny_run("run", **KEYS, stages="generate")


def test_a_stage_of_a_directory_that_is_no_run(tiny_run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="not the directory of a run"):
        tiny_run("run", **KEYS, stages="generate", resume_from=str(tmp_path / "empty"))
    (tmp_path / "empty" / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"'train'.*run the earlier stages first"):
        tiny_run("run", **KEYS, stages="generate", resume_from=str(tmp_path / "empty"))


def test_lost_local_models_are_noticed_before_any_work(tiny_run, tmp_path):
    run = tiny_run("run", **KEYS, stages="train")
    for file in (run.directory / "checkpoints" / "local_models").iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match="local_models"):
        tiny_run("run", **KEYS, stages="generate", resume_from=str(tmp_path / "run"))


def test_lost_pseudo_data_names_the_file(tiny_run, tmp_path):
    run = tiny_run("run", **KEYS, stages="train,generate")
    (run.directory / "pseudo_data" / "common-c0-b1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"common-c0-b1\.safetensors is missing"):
        tiny_run("run", **KEYS, stages="distil", resume_from=str(tmp_path / "run"))


def test_a_used_directory_is_not_overwritten(tiny_run, tmp_path):
    tiny_run("run", **KEYS, stages="train")
    with pytest.raises(ConfigurationError, match=r"already holds a run.*resume-from"):
        tiny_run("run", **KEYS, stages="train")


def test_the_order_in_which_stages_are_written_does_not_matter(tiny_run):
    run = tiny_run("run", **KEYS, stages="distil, train,generate")
    assert [step[5:] for step in run.steps()] == ["train-0002", "generate-01", "distil-judged"]
