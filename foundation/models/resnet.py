"""Residual networks for small images (He et al. 2016), with torchvision's BasicBlock.

The stem is a 3x3 convolution without max-pooling: on 32x32 and 8x8 images that of the ImageNet
version would throw the picture away. The block is written out here: importing torchvision's costs
as long as importing torch, and on a real client every message is answered by a new process.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# A filter whose squared length is below this, around its mean, is not blown up to length 1.
_SHORTEST = 1e-8


def standardized(weight: Tensor) -> Tensor:
    """Return filters (outputs, inputs, height, width) with mean 0 and length 1 (Qiao et al. 2019).

        W ← (W - mean W)/(std W·√fan-in),    mean and deviation over one filter's weights

    With GroupNorm behind it (``-ws`` models; FedWSQ, 2025), nothing in a network is averaged over
    images: no running statistics for an average of models to get wrong, or for an inversion to
    match.
    """
    # In bfloat16, the mean of some thousand weights would be lost.
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, dim=(1, 2, 3), correction=0, keepdim=True)
    squared_length = variance * weight[0].numel()
    return ((wide - mean) * squared_length.clamp_min(_SHORTEST).rsqrt()).to(weight.dtype)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose parameters are those of ``nn.Conv2d``, by the same names."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve with the standardized filters."""
        result: Tensor = self._conv_forward(features, standardized(self.weight), self.bias)
        return result


def standardize_weights(network: nn.Module) -> None:
    """Make every convolution of a network a standardized one, with the weights that it has."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = StandardizedConv2d


NormLayer = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """Return GroupNorm with at most 32 groups, the BatchNorm-free choice (Wu and He 2018)."""
    groups = next(count for count in (32, 16, 8, 4, 2, 1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; modules are named and ordered as in torchvision.

    ``downsample`` is the shortcut, where it is not the identity.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        norm_layer: NormLayer,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, 3, stride)
        self.bn1 = norm_layer(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(outputs, outputs, 3)
        self.bn2 = norm_layer(outputs)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        """Return features (n, outputs, height/stride, width/stride)."""
        shortcut = features if self.downsample is None else self.downsample(features)
        inner = self.relu(self.bn1(self.conv1(features)))
        outer: Tensor = self.relu(self.bn2(self.conv2(inner)).add_(shortcut))
        return outer


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)


def residual_encoder(
    channels: int,
    image_size: tuple[int, int] | None = None,
    *,
    width: int,
    blocks: Sequence[int],
    norm_layer: NormLayer = nn.BatchNorm2d,
    standardized: bool = False,
) -> tuple[nn.Module, int]:
    """Build the convolutional part of a residual network; return it and its number of features.

    It maps images (n, channels, height, width) of any size to (n, features, 1, 1). The first stage
    has ``width`` channels, 8 or more; every later one doubles them and halves the resolution.
    ``blocks`` are the BasicBlocks in each stage. Filters may be ``standardized``.
    """
    # PyTorch 2.14 on processors with AVX2 and without AVX-512: the weights' gradient of a strided
    # 1x1 convolution of fewer than 8 channels, channels_last, writes past its memory.
    if width < 8:
        raise ValueError(f"width = {width}: must be at least 8")
    layers: list[nn.Module] = [
        _convolution(channels, width, 3),
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
                downsample = nn.Sequential(
                    _convolution(inputs, outputs, 1, stride), norm_layer(outputs)
                )
            layers.append(BasicBlock(inputs, outputs, stride, norm_layer, downsample))
            inputs = outputs
    layers.append(nn.AdaptiveAvgPool2d(1))
    encoder = nn.Sequential(*layers)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if standardized:
        standardize_weights(encoder)
    return encoder, inputs
