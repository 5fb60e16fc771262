"""Standardized filters, and the networks that have them."""

import pytest
import torch

from foundation.models import StateLayout
from foundation.models.registry import build
from foundation.models.resnet import StandardizedConv2d, standardized


def test_every_filter_has_mean_zero_and_length_one():
    weight = 3.0 + torch.randn(5, 4, 3, 3, dtype=torch.float64)
    result = standardized(weight)
    torch.testing.assert_close(result.mean((1, 2, 3)), torch.zeros(5).double())
    torch.testing.assert_close(result.square().sum((1, 2, 3)), torch.ones(5).double())


def test_shift_and_scale_of_a_filter_change_nothing_and_get_no_gradient():
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(standardized(5.0 * weight + 2.0), standardized(weight))
    (standardized(weight) * torch.randn(3, 2, 3, 3).double()).sum().backward()
    along = (weight.grad * weight).sum((1, 2, 3))
    torch.testing.assert_close(along, torch.zeros(3).double())
    torch.testing.assert_close(weight.grad.sum((1, 2, 3)), torch.zeros(3).double())


def test_a_constant_filter_gives_zeros():
    assert torch.equal(standardized(torch.full((1, 2, 3, 3), 0.5)), torch.zeros(1, 2, 3, 3))


@pytest.mark.parametrize("name", ["resnet8-ws", "resnet18-ws", "torchvision/resnet18-ws"])
def test_the_networks_have_no_statistics_and_standardize_all_convolutions(name):
    model = build(name, classes=10, image_size=32, seed=0)
    layout = StateLayout.of(model)
    assert not layout.batch_norm and not layout.float_buffers
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert convolutions and all(type(m) is StandardizedConv2d for m in convolutions)
    images = torch.randn(2, 3, 32, 32)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone, rtol=1e-4, atol=1e-5)


def test_they_start_from_the_weights_of_their_group_norm_twin():
    own, twin = (build(name, classes=4, seed=3) for name in ("resnet8-ws", "resnet8-gn"))
    state = twin.state_dict()
    assert list(own.state_dict()) == list(state)
    for name, value in own.state_dict().items():
        if "encoder" in name:
            assert torch.equal(value, state[name]), name
