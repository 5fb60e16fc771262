"""A small convolutional network."""

from torch import nn


def small_net(channels: int, image_size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Return an encoder of images, and how many features it gives; the head is added to it."""
    encoder = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return encoder, 32
