"""Work is counted right: against PyTorch's own counter."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2

from foundation.members import MODELS
from foundation.models import build
from foundation.models.torchvision_models import SMALLEST
from generation import forward_operations


def counted_by_pytorch(model: nn.Module, shape: tuple[int, int, int]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", [name for name in MODELS.ours if name != "timm/"])
def test_operations_are_those_pytorch_counts(name: str) -> None:
    side = 16 if name.startswith("resnet") else SMALLEST
    model = build(name, classes=10, channels=1, image_size=side, projection_dim=8, seed=0)
    found = forward_operations(model, (1, side, side))
    assert found == counted_by_pytorch(model, (1, side, side)) > 0


def test_grouped_convolutions_count_by_group() -> None:
    model = mobilenet_v2()
    assert forward_operations(model, (3, 32, 32)) == counted_by_pytorch(model, (3, 32, 32))


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert forward_operations(model, (1, 8, 8)) == forward_operations(model, (1, 8, 8))
    assert model.training
    assert not model[0]._forward_hooks
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
