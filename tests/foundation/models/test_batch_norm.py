"""BatchNorm statistics: exact for one layer, layer by layer for many, and nothing else is moved."""

import pytest
import torch
from torch import nn

from foundation.models import build, cpu_state, load_state
from foundation.models.batch_norm import (
    batch_norm_layers,
    freeze_statistics,
    input_moments,
    pooled_statistics,
    with_statistics,
)


@pytest.fixture
def images():
    torch.manual_seed(0)
    # Two sites whose images differ in mean and spread, as under label skew.
    return [torch.randn(7, 3, 4, 4) * 2 + 1, torch.randn(12, 3, 4, 4) - 3]


def one_layer() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU())


def test_one_layer_gets_the_statistics_of_all_images_together(images):
    model = one_layer()
    found = pooled_statistics([input_moments(model, [part]) for part in images])
    inputs = model[0](torch.cat(images)).double()
    mean = inputs.mean(dim=(0, 2, 3))
    variance = inputs.var(dim=(0, 2, 3), unbiased=True)
    torch.testing.assert_close(found["1.running_mean"], mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["1.running_var"], variance, rtol=1e-5, atol=1e-5)


def test_they_are_those_that_torch_keeps(images):
    model = one_layer()
    found = pooled_statistics([input_moments(model, images)])
    model[1].momentum = 1.0
    model.train()(torch.cat(images))
    kept = {name: value.double() for name, value in model.state_dict().items()}
    for name, value in found.items():
        torch.testing.assert_close(value, kept[name], rtol=1e-5, atol=1e-5)


def test_averaging_running_statistics_is_not_that(images):
    model = one_layer()
    both = [pooled_statistics([input_moments(model, [part])]) for part in images]
    pooled = pooled_statistics([input_moments(model, [part]) for part in images])
    averaged = sum(
        len(part) / 19 * statistics["1.running_var"]
        for part, statistics in zip(images, both, strict=True)
    )
    # The spread of the two sites' means is missing; n/(n - 1) of each site differs a little.
    assert (averaged < 1.01 * pooled["1.running_var"]).all()
    assert (averaged < 0.6 * pooled["1.running_var"]).any()


def layer_by_layer(model: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """The exact statistics: each layer measured in eval mode, those before it already set."""
    model.eval()
    found = {}
    for name, layer in batch_norm_layers(model).items():
        seen: list[torch.Tensor] = []
        hook = layer.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0].double())
        )
        with torch.no_grad():
            model(batch)
        hook.remove()
        (inputs,) = seen
        found[f"{name}.running_mean"] = inputs.mean(dim=(0, 2, 3))
        found[f"{name}.running_var"] = inputs.var(dim=(0, 2, 3), unbiased=True)
        load_state(model, with_statistics(cpu_state(model), found))
    return found


def test_one_pass_in_train_mode_is_layer_by_layer_on_one_batch():
    torch.manual_seed(2)
    batch = torch.randn(24, 3, 16, 16)
    model = build("resnet8", classes=4, image_size=16, seed=3)
    found = pooled_statistics([input_moments(model, [batch])])
    exact = layer_by_layer(model, batch)
    assert found.keys() == exact.keys()
    for name, value in found.items():
        # Biased variance in normalising, unbiased in the running one: n/(n - 1) for n = 384 up.
        torch.testing.assert_close(value, exact[name], rtol=0.02, atol=0.02)


def test_a_sample_weighs_as_the_images_it_stands_for(images):
    model = one_layer()
    twice = [input_moments(model, [torch.cat([images[0]] * 3)]), input_moments(model, [images[1]])]
    once = [input_moments(model, [part]) for part in images]
    many, few = pooled_statistics(twice), pooled_statistics(once, [3.0, 1.0])
    for name, value in many.items():
        torch.testing.assert_close(value, few[name])


def test_the_model_is_left_as_it_was(images):
    model = nn.Sequential(one_layer(), nn.Dropout(0.5)).train()
    model[0][1].eval()
    before = cpu_state(model)
    input_moments(model, images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not model[0][1].training
    assert not model[0][1]._forward_pre_hooks


def test_a_model_without_batch_norm_has_no_statistics(images):
    assert input_moments(nn.Flatten(), images) == {}
    assert pooled_statistics([]) == {}


def test_frozen_statistics_are_used_and_stay(images):
    model = one_layer()
    model.train()
    freeze_statistics(model)
    before = cpu_state(model)
    outputs = model(images[0])
    assert torch.equal(outputs, model.eval()(images[0]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].weight.requires_grad
