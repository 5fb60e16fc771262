"""Residual networks for small images (He et al. 2016), built from torchvision's BasicBlock.

The stem is a 3x3 convolution without max-pooling: on 32x32 and 8x8 images the 7x7 stride-2 stem
and the pooling layer of the ImageNet version would throw the picture away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3

NormLayer = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """Return GroupNorm with at most 32 groups, the BatchNorm-free choice (Wu and He 2018)."""
    groups = next(count for count in (32, 16, 8, 4, 2, 1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


def residual_encoder(
    *,
    channels: int,
    width: int,
    blocks: Sequence[int],
    norm_layer: NormLayer = nn.BatchNorm2d,
) -> tuple[nn.Module, int]:
    """Build the convolutional part of a residual network.

    Parameters
    ----------
    channels : int
        Channels of the input image.
    width : int
        Channels of the first stage; every later stage doubles them and halves the resolution.
    blocks : Sequence[int]
        Number of BasicBlocks in each stage.
    norm_layer : callable (default: nn.BatchNorm2d)
        Builds a normalization layer for a number of channels.

    Returns
    -------
    tuple[nn.Module, int]
        The encoder, from (n, channels, height, width) to (n, features, 1, 1), and its number
        of features.
    """
    layers: list[nn.Module] = [
        conv3x3(channels, width),
        norm_layer(width),
        nn.ReLU(inplace=True),
    ]
    inputs = width
    for stage, count in enumerate(blocks):
        outputs = width * 2**stage
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            downsample = None
            if stride != 1 or inputs != outputs:
                downsample = nn.Sequential(conv1x1(inputs, outputs, stride), norm_layer(outputs))
            layers.append(
                BasicBlock(inputs, outputs, stride, downsample, norm_layer=partial(norm_layer))
            )
            inputs = outputs
    layers.append(nn.AdaptiveAvgPool2d(1))
    encoder = nn.Sequential(*layers)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return encoder, inputs
