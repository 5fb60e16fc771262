"""The key post-training: named, switched off, several in a row, or a file of one's own."""

import json
import sys

import pytest
import torch

from foundation.members import FOLDER_VARIABLE
from foundation.settings.configuration import ConfigurationError, RunConfiguration


def test_switched_off_by_one_key(tiny_run):
    run = tiny_run("run", strategy="fedavg", num_server_rounds=1, post_training="none")
    assert run.summary()["accuracy"]["distilled"] is None
    assert [step[5:] for step in run.steps()] == ["train-0001"]
    assert not (run.directory / "pseudo_data").exists()


def test_the_old_name_of_the_key_is_read_with_a_warning(tiny_run, app_log):
    run = tiny_run("run", strategy="fedavg", num_server_rounds=1, hook="none")
    assert run.summary()["post_training"] == "none"
    assert "'hook' is now called 'post-training'" in app_log.text


ZERO = """
import torch
from post_training import Method

def zero(trained, settings):
    # Set the global model to zero, and look at what a method may look at.
    assert list(trained.local_models) == list(trained.num_examples) == [0, 1, 2]
    counts = trained.label_counts()
    assert {client: sum(row) for client, row in counts.items()} == trained.num_examples
    trained.offer("zeroed", {name: torch.zeros_like(v) for name, v in trained.global_state.items()})
    trained.commit("all")

method = Method("zero", zero)
"""


@pytest.fixture
def zero(tmp_path, monkeypatch):
    """Return what a method of one's own is called, in a file of the user's folder."""
    (tmp_path / "method_of_a_test.py").write_text(ZERO)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    yield "method_of_a_test:method"
    sys.modules.pop("method_of_a_test", None)


def test_a_method_of_ones_own(tiny_run, zero):
    keys = {"strategy": "fedavg", "num_server_rounds": 1, "acceptance": "none"}
    run = tiny_run("run", **keys, post_training=zero)
    assert all(not value.any() for value in run.model().values())
    assert [event["stage"] for event in run.events("evaluation")] == ["federated", "zeroed"]
    assert run.steps()[-1] == "0002-zero-all"


def test_several_in_a_row_each_from_what_the_one_before_left(tiny_run, zero):
    keys = {"strategy": "fedavg", "num_server_rounds": 1, "acceptance": "none"}
    run = tiny_run("run", **keys, post_training=f"fedf2dg,{zero}")
    stages = [event["stage"] for event in run.events("evaluation")]
    assert stages == ["federated", "distilled", "competed", "zeroed"]
    assert all(not value.any() for value in run.model().values())
    # What comes behind a method waits for the last of its stages.
    partly = tiny_run(
        "partly", **keys, post_training=f"fedf2dg,{zero}", stages="train,generate,distil"
    )
    assert [event["stage"] for event in partly.events("evaluation")] == ["federated", "distilled"]


def test_what_comes_behind_a_competition_that_is_left_out_is_said_or_follows(
    tiny_run, app_log
) -> None:
    keys = {
        "strategy": "fedavg",
        "num_server_rounds": 1,
        "post_training": "fedf2dg,calibration",
        "calibration__from": "predictions",
    }
    ended = tiny_run("ended", **keys, stages="train,generate,distil")
    assert "calibrated" not in ended.summary()["accuracy"]
    assert "calibration comes behind the competition" in app_log.text
    app_log.clear()
    whole = tiny_run("whole", **keys, competition__rounds=0)
    accuracy = whole.summary()["accuracy"]
    assert accuracy["competed"] is None and accuracy["calibrated"] is not None
    assert "comes behind" not in app_log.text
    assert len(whole.events("round")) == 1  # the clients were not trained again


@pytest.mark.parametrize(
    ("part", "source", "last"),
    [
        ("bias", "pseudo", "calibration-images"),
        ("bias", "predictions", "calibration-bias"),
        ("head", "moments", "calibration-head"),
    ],
)
def test_calibration_before_fedf2dg_and_resumed_between(
    tiny_run, tmp_path, monkeypatch, part, source, last
):
    from server_app.run import Run

    keys = {
        "strategy": "fedavg",
        "num_server_rounds": 1,
        "post_training": "calibration,fedf2dg",
        "calibration__of": part,
        "calibration__from": source,
    }
    whole = tiny_run("whole", **keys)
    assert [event["stage"] for event in whole.events("evaluation")] == [
        "federated",
        "calibrated",
        "distilled",
        "competed",
    ]
    assert list(whole.summary()["accuracy"])[:3] == ["federated", "calibrated", "distilled"]
    (event,) = whole.events("calibration")
    assert (event["of"], event["source"]) == (part, source)
    commit = Run.commit

    def dying(run, step):
        commit(run, step)
        if step == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "commit", dying)
    with pytest.raises(KeyboardInterrupt):
        tiny_run("parted", **keys)
    monkeypatch.setattr(Run, "commit", commit)
    parted = tiny_run("parted", **keys, resume_from=str(tmp_path / "parted"))
    assert parted.events() == whole.events()
    assert all(torch.equal(parted.model()[name], value) for name, value in whole.model().items())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("magic", r"unknown .*post-training.*magic.*calibration.*fedf2dg.*none"),
        ("fedf2dg,fedf2dg", "different ones of calibration.*fedf2dg"),
        ("none,fedf2dg", "name none, or one or several"),
        (" ,", "name none, or one or several"),
    ],
)
def test_impossible_names_stop_before_any_work(tiny_run, names, message):
    with pytest.raises(ConfigurationError, match=message):
        tiny_run("run", post_training=names)


def test_baselines_without_a_global_model_have_no_post_training(tiny_run, app_log):
    run = tiny_run("run", strategy="local", num_server_rounds=1)
    assert run.summary()["accuracy"]["distilled"] is None
    assert "no global model" in app_log.text


@pytest.mark.parametrize(
    ("keys", "size", "names"),
    [
        ({}, (8, 8), "fedf2dg"),
        ({}, (28, 15), "fedf2dg"),
        ({}, (16, 16), "fedf2dg,calibration"),
        ({"label-counts": "uniform"}, (32, 32), "fedf2dg"),
        ({"generation.place": "client"}, (32, 32), "fedf2dg"),
        ({"post-training": "none"}, (32, 32), "none"),
    ],
)
def test_auto_chooses_by_the_images_and_what_may_be_known(keys, size, names):
    assert RunConfiguration.parse(keys).post_training_for(size) == names


@pytest.mark.parametrize("keys", [{"label-counts": "uniform"}, {"generation.place": "client"}])
def test_what_auto_leaves_out_is_named_with_its_reason(keys):
    from server_app.run import left_out

    (said,) = left_out(RunConfiguration.parse(keys), (32, 32), has_model=True)
    assert "leaves calibration out" in said and "=".join(*keys.items()) in said
    assert left_out(RunConfiguration.parse(keys), (8, 8), has_model=True) == []
    assert left_out(RunConfiguration.parse({}), (32, 32), has_model=True) == []
    assert left_out(RunConfiguration.parse({**keys, "stages": "train"}), (32, 32), True) == []


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"privacy.clipping": "server-fixed", "model": "cnn"}, "not part of ε"),
        ({"personal": "batch-norm"}, "without their BatchNorm"),
    ],
)
@pytest.mark.parametrize("size", [(8, 8), (32, 32)])
def test_where_auto_is_none_the_reason_is_the_key_that_was_set(keys, reason, size):
    from server_app.run import left_out

    (said,) = left_out(RunConfiguration.parse(keys), size, has_model=True)
    key, value = next(iter(keys.items()))
    assert f"{key}={value}" in said and reason in said
    assert "generation.place" not in said and "post-training=fedf2dg" not in said


def test_a_run_of_the_training_alone_names_no_method(tiny_run):
    run = tiny_run("run", strategy="fedavg", num_server_rounds=1, stages="train")
    assert run.summary()["post_training"] == "none" and run.summary()["left_out"] == []
    assert "fedf2dg," not in (run.directory / "model" / "README.md").read_text("utf-8")


def test_what_auto_chose_stands_in_log_configuration_and_summary(tiny_run, app_log):
    run = tiny_run("run", strategy="fedavg", num_server_rounds=1, stages="train,generate,distil")
    assert run.summary()["post_training"] == "fedf2dg"
    written = json.loads((run.directory / "config.json").read_text("utf-8"))
    assert written["post_training"] == "fedf2dg"
    assert written["configuration"]["post-training"] == "auto"
    assert "post-training: fedf2dg" in app_log.text


def test_balanced_labels_reach_the_inversion_of_a_run(tiny_run):
    run = tiny_run(
        "run",
        strategy="fedavg",
        num_server_rounds=1,
        stages="train,generate",
        dirichlet_alpha=0.2,
        generation__labels="balanced",
        generation__images_per_client=40,
        generation__iterations=1,
    )
    (made,) = run.pseudo_data().values()
    images = torch.tensor(made["labels"]).bincount(minlength=10)
    # 120 images over ten classes; each of the three clients rounds by less than one.
    assert (images - 12).abs().max() <= 3
    assert len(made["labels"]) == 120
