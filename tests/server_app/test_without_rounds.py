"""A federation of one message: no rounds, sums of features, a head, and a judgement."""

import pytest
import torch
from safetensors.torch import load_file

from foundation.settings.configuration import ConfigurationError


@pytest.fixture
def weights(tiny_run):
    """Return a model to begin from, as a run leaves it behind."""
    run = tiny_run("before", num_server_rounds=1, stages="train", train_samples=200)
    return str(run.directory / "model")


def test_a_run_without_rounds_ends_like_any_other(tiny_run, weights, tmp_path):
    keys = {"num_server_rounds": 0, "initial_weights": weights, "train_samples": 600}
    run = tiny_run("run", **keys, post_training="head")
    summary = run.summary()
    assert summary["status"] == "completed" and summary["rounds"] == 0
    assert summary["judged"]["selected"] == "head"
    assert summary["accuracy"]["federated"] is None
    assert summary["accuracy"]["selected"] == summary["accuracy"]["head"]
    assert [c["step"] for c in run.events("judgement")[0]["candidates"]] == [0.0, 1.0]
    assert "model/model.safetensors" in run.files()
    assert len(run.events("clients")) == 1 and not run.events("round")
    begun = load_file(f"{weights}/model.safetensors")
    changed = {n for n, value in run.model().items() if not torch.equal(value, begun[n])}
    assert changed == {"head.weight", "head.bias"}
    again = tiny_run("run", **keys, post_training="head", resume_from=str(tmp_path / "run"))
    assert again.summary() == summary


def test_what_needs_rounds_is_refused(tiny_run, weights):
    with pytest.raises(ConfigurationError, match=r"num-server-rounds = 0 .*initial-weights"):
        tiny_run("fresh", num_server_rounds=0, post_training="head")
    with pytest.raises(ConfigurationError, match=r"'fedf2dg' needs local models.*head"):
        tiny_run("dream", num_server_rounds=0, initial_weights=weights, post_training="fedf2dg")
