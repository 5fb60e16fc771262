"""timm's classifiers as encoders, and what is said where timm is not installed."""

import sys

import pytest
import torch

from foundation.models import build, cpu_state
from foundation.models.initial_weights import fitted, pixel_constants
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from server_app.images import description_of
from server_app.preflight import parse


def test_without_timm_its_models_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    configuration = parse({"model": "timm/resnet18", "initial-weights": "imagenet"})
    with pytest.raises(ConfigurationError, match=r"pip install 'fedf2dg\[timm\]'"):
        description_of(configuration)
    with pytest.raises(ValueError, match=r"'timm/resnet18' needs timm, on clients too"):
        build("timm/resnet18", classes=2)


def test_any_name_behind_timm_is_left_to_timm():
    assert RunConfiguration.parse({"model": "timm/some_net"}).model == "timm/some_net"
    with pytest.raises(ConfigurationError, match="unknown model"):
        RunConfiguration.parse({"model": "tim/some_net"})


def test_a_model_of_timm_is_built_without_its_head_and_takes_timms_checkpoints():
    timm = pytest.importorskip("timm")
    model = build("timm/resnet18", classes=3, channels=1, image_size=64, seed=0)
    images = torch.rand(2, 1, 64, 64)
    assert model(images).shape == (2, 3)
    assert model.head.in_features == 512
    given = timm.create_model("resnet18", pretrained=False, num_classes=7).state_dict()
    state, left = fitted(model, given, same_classes=None)
    assert torch.equal(state["encoder.layer1.0.conv1.weight"], given["layer1.0.conv1.weight"])
    assert len(left) == 2  # the head, and the colours
    assert pixel_constants("imagenet", "timm/resnet18")[0] == (0.485, 0.456, 0.406)
    assert set(cpu_state(model)) == set(state)


def test_a_name_that_timm_does_not_know_is_refused():
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="timm has no model 'resnet_of_mine'"):
        build("timm/resnet_of_mine", classes=3)
