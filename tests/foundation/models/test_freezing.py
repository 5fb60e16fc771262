"""Layers that are not trained."""

import pytest
import torch

from foundation.models import build
from foundation.models.freezing import freeze, hold_frozen_statistics


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_encoder_leaves_projection_and_head():
    model = build("resnet8", classes=3, projection_dim=4)
    freeze(model, ["encoder"])
    assert {name.split(".")[0] for name in trained(model)} == {"projection", "head"}


def test_a_name_means_a_whole_layer_and_no_other_that_begins_alike():
    model = torch.nn.Module()
    model.encoder = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "ab": torch.nn.Linear(2, 2)})
    freeze(model, ["encoder.a"])
    assert trained(model) == {"encoder.ab.weight", "encoder.ab.bias"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["encodr"], "freeze = 'encodr' fits no layer with parameters; the model has encoder"),
        (["encoder", "head"], "freeze = 'encoder,head' leaves nothing to train"),
    ],
)
def test_what_cannot_be_frozen(layers, message):
    with pytest.raises(ValueError, match=message):
        freeze(build("resnet8", classes=3), layers)


def test_statistics_of_frozen_layers_stay_and_those_of_others_move():
    model = build("resnet8", classes=3)
    freeze(model, ["encoder"])
    freed = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    freed.weight.requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    hold_frozen_statistics(model)
    model(torch.randn(4, 3, 8, 8))
    moved = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    (name,) = [name for name, module in model.named_modules() if module is freed]
    assert moved == {
        f"{name}.{buffer}" for buffer in ("running_mean", "running_var", "num_batches_tracked")
    }
