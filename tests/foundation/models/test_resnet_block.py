"""The residual block is torchvision's, without importing torchvision."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock as Torchvisions

from foundation.models.resnet import BasicBlock, residual_encoder


def test_same_names_outputs_and_gradients_as_torchvisions() -> None:
    def shortcut() -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))

    ours = BasicBlock(4, 8, 2, nn.BatchNorm2d, shortcut())
    theirs = Torchvisions(4, 8, 2, shortcut())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(5, 4, 6, 6)
    outputs = [block(images) for block in (ours, theirs)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_networks_too_narrow_for_a_defect_of_pytorch_are_refused() -> None:
    with pytest.raises(ValueError, match="width = 4: must be at least 8"):
        residual_encoder(channels=3, width=4, blocks=(1, 1))
