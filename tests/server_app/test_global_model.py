"""A run that starts from given weights, and trains a part of them."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedf2dg import simulate
from foundation.data import Normalization
from foundation.models import build, cpu_state, torchvision_models
from foundation.settings.configuration import RunConfiguration
from server_app.global_model import initial_state
from server_app.images import description_of

IMAGENET = Normalization(torchvision_models.MEAN, torchvision_models.STD)
TINY = {
    "train_samples": 200,
    "num_clients": 2,
    "num_server_rounds": 1,
    "local_epochs": 1,
    "partition": "iid",
    "post_training": "none",
    "processes": 1,
}


@pytest.fixture
def weights(tmp_path):
    given = cpu_state(build("resnet8", classes=10, channels=1, image_size=8, seed=5))
    save_file(given, tmp_path / "weights.safetensors")
    return given, str(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "fedadam"])
def test_frozen_layers_of_given_weights_come_out_as_they_went_in(tmp_path, weights, strategy):
    given, path = weights
    simulate(
        RunConfiguration(
            strategy=strategy,
            initial_weights=path,
            freeze="encoder",
            output_dir=str(tmp_path / "run"),
            **TINY,
        )
    )
    kept = load_file(tmp_path / "run" / "model" / "model.safetensors")
    same = {name for name in given if torch.equal(kept[name], given[name])}
    assert same == {name for name in given if name.startswith("encoder.")}
    # An earlier run is a start of its own.
    again = RunConfiguration(
        strategy="fedavg", initial_weights=str(tmp_path / "run"), learning_rate=1e-9, **TINY
    )
    simulate(RunConfiguration(**{**again.__dict__, "output_dir": str(tmp_path / "again")}))
    later = load_file(tmp_path / "again" / "model" / "model.safetensors")
    assert torch.allclose(later["head.weight"], kept["head.weight"], atol=1e-5)


def test_a_resumed_run_does_not_need_the_file_any_more(tmp_path, weights):
    _, path = weights
    settings = {"initial_weights": path, "output_dir": str(tmp_path / "run"), **TINY}
    simulate(RunConfiguration(stages="train", **settings))
    (tmp_path / "weights.safetensors").unlink()
    resumed = RunConfiguration(resume_from=str(tmp_path / "run"), **settings)
    assert simulate(resumed)["status"] == "completed"


def test_a_head_of_other_classes_is_replaced_and_other_pixels_are_warned_of(tmp_path, caplog):
    simulate(RunConfiguration(output_dir=str(tmp_path / "run"), **TINY))
    file = tmp_path / "run" / "model" / "config.json"
    file.write_text(file.read_text().replace('"3"', '"three"').replace("0.5", "0.25"))
    configuration = RunConfiguration(initial_weights=str(tmp_path / "run"))
    model = build("resnet8", classes=10, channels=1, image_size=8, seed=0)
    with caplog.at_level(logging.INFO, "flwr.fedf2dg"):
        caplog.clear()
        # The check before a run says nothing of what the run says then.
        initial_state(configuration, description_of(configuration), model, say=False)
        assert not caplog.text
        initial_state(configuration, description_of(configuration), model)
    assert "the classifier's head is new" in caplog.text


def test_weights_of_torchvision_are_given_the_pixels_they_know():
    plain = RunConfiguration(dataset="cifar10")
    assert description_of(plain).normalization != IMAGENET
    for settings in (
        {"model": "torchvision/resnet18", "initial_weights": "imagenet"},
        {"normalization": "imagenet"},
    ):
        given = RunConfiguration(dataset="cifar10", **settings)
        assert description_of(given).normalization == IMAGENET
    kept = RunConfiguration(
        dataset="cifar10",
        model="torchvision/resnet18",
        initial_weights="imagenet",
        normalization="data-set",
    )
    assert description_of(kept).normalization == description_of(plain).normalization


def test_an_earlier_runs_pixels_are_taken_and_told_again_after_a_resume(tmp_path):
    simulate(RunConfiguration(output_dir=str(tmp_path / "first"), **TINY))
    file = tmp_path / "first" / "model" / "config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "mean": [0.25], "std": [0.125]}))
    second = {"output_dir": str(tmp_path / "second"), "initial_weights": str(tmp_path / "first")}
    simulate(RunConfiguration(**second, **TINY))
    shutil.rmtree(tmp_path / "first")
    longer = {**TINY, "num_server_rounds": 2}
    simulate(RunConfiguration(**second, resume_from=str(tmp_path / "second"), **longer))
    kept = json.loads((tmp_path / "second" / "model" / "config.json").read_text())
    assert (kept["mean"], kept["std"]) == ([0.25], [0.125])
