"""The models by name; see :class:`.Model`."""

from functools import partial

import torch
from torch import nn

from foundation.members import MODELS

from . import timm_models
from .classifier import Classifier, Model
from .resnet import group_norm, residual_encoder


def small_cnn(channels: int, image_size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Build McMahan et al.'s (2017) two 5x5 convolutions, padded for images as small as 4x4."""
    height, width = image_size
    if min(height, width) < 4:
        raise ValueError(f"model 'cnn' needs images of at least 4x4 pixels, not {height}x{width}")
    features = 64 * (height // 4) * (width // 4)
    encoder = nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(1),
        nn.Linear(features, 512),
        nn.ReLU(inplace=True),
    )
    return encoder, 512


def wide_cnn(channels: int, image_size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Build the network of DENSE's and Co-Boosting's one-shot tables on CIFAR-10.

    Three unpadded 3x3 convolutions of 128 channels, the first two pooled; 2,048 features of a
    32x32 image. No normalization layers.
    """
    height, width = (((side - 2) // 2 - 2) // 2 - 2 for side in image_size)
    if min(height, width) < 1:
        raise ValueError(
            f"model 'cnn-128' needs images of at least 18x18 pixels, not {image_size[0]}x"
            f"{image_size[1]}"
        )
    encoder = nn.Sequential(
        nn.Conv2d(channels, 128, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 128, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 128, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(1),
    )
    return encoder, 128 * height * width


def vgg11(channels: int, image_size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Build VGG-11 with BatchNorm (Simonyan and Zisserman 2015), pooled to one feature vector.

    Poolings that would shrink a side below one pixel are left out.
    """
    layers: list[nn.Module] = []
    inputs, side = channels, min(image_size)
    for item in (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"):
        if isinstance(item, int):
            layers += [
                nn.Conv2d(inputs, item, 3, padding=1, bias=False),
                nn.BatchNorm2d(item),
                nn.ReLU(inplace=True),
            ]
            inputs = item
        elif side >= 2:
            layers.append(nn.MaxPool2d(2))
            side //= 2
    layers.append(nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers), 512


# resnet8, 20 and 32 are He et al.'s three-stage networks for CIFAR-10; resnet18 and 34 have four
# stages. On 8x8 images a fourth stage is a single pixel, whose BatchNorm statistics are so poor
# that averaging ten clients at Dirichlet 0.05 stays near chance for rounds: resnet8 suits digits.
_EIGHT = partial(residual_encoder, width=16, blocks=(1, 1, 1))
_EIGHTEEN = partial(residual_encoder, width=64, blocks=(2, 2, 2, 2))

models = (
    Model("resnet8", _EIGHT),
    Model("resnet20", partial(residual_encoder, width=16, blocks=(3, 3, 3))),
    Model("resnet32", partial(residual_encoder, width=16, blocks=(5, 5, 5))),
    Model("resnet18", _EIGHTEEN),
    Model("resnet34", partial(residual_encoder, width=64, blocks=(3, 4, 6, 3))),
    Model("resnet8-gn", partial(_EIGHT, norm_layer=group_norm)),
    Model("resnet18-gn", partial(_EIGHTEEN, norm_layer=group_norm)),
    Model("resnet8-ws", partial(_EIGHT, norm_layer=group_norm, standardized=True)),
    Model("resnet18-ws", partial(_EIGHTEEN, norm_layer=group_norm, standardized=True)),
    Model("cnn", small_cnn),
    Model("cnn-128", wide_cnn),
    Model("vgg11", vgg11),
)


def build(
    name: str,
    *,
    classes: int,
    channels: int = 3,
    image_size: tuple[int, int] | int = 32,
    projection_dim: int = 0,
    seed: int | None = None,
) -> Classifier:
    """Build a classifier with fresh weights for images of (height, width) pixels.

    The name is of one of :data:`foundation.members.MODELS`. ``projection_dim`` is the output size
    of MOON's projection head; 0 builds none. ``seed`` draws the initial weights and leaves the
    global random state as it was; None draws from that. A ValueError says that the name is unknown
    (with the choices) or that the image is too small.
    """
    make = MODELS.load_function(name)
    if name.startswith(timm_models.PREFIX):
        make = partial(make, name=name)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        encoder, width = make(channels, size)
        return Classifier(encoder, width, classes, projection_dim)
