"""A generator of images: noise, and a class if it is told one, to pixels within their range.

The network of DENSE (Zhang et al. 2022) and Co-Boosting (Dai et al. 2024). FedFTG (Zhang et al.
2022) gives half of the first layer's channels to the class.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .engine import PixelRange

#: Numbers of noise that an image is made from, as in the papers' programs for CIFAR-10.
NOISE = 256
# Where a pixel's range is not known, it is taken to be two standard deviations of normalised data.
_USUAL_END = 2.0
# Initial weights of the papers' programs; a generator is made anew for every batch of images.
_DEVIATION = 0.02


def pixel_bounds(pixel_range: PixelRange | None, channels: int) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest value of a pixel, (channels, 1, 1) each.

    Without a range: ±2, two standard deviations of normalised images.
    """
    ends = pixel_range or ((-_USUAL_END,) * channels, (_USUAL_END,) * channels)
    low, high = (torch.tensor(end, dtype=torch.float32).view(-1, 1, 1) for end in ends)
    return low, high


class Generator(nn.Module):
    """Maps noise (n, NOISE), and labels where there are classes, to images (n, C, H, W).

    A linear layer to a quarter of the size, then twice nearest-neighbour enlargement and
    convolution; the last hidden layer has `width` channels, the earlier ones twice as many. The
    seed is that of the initial weights; the global random state is left as it was.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        pixel_range: PixelRange | None,
        *,
        classes: int = 0,
        seed: int,
    ) -> None:
        super().__init__()
        channels, height, self._width = shape
        self._sizes = [
            (math.ceil(height / part), math.ceil(self._width / part)) for part in (4, 2, 1)
        ]
        self._classes = classes
        pixels = math.prod(self._sizes[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.from_noise = nn.Linear(NOISE, (width if classes else 2 * width) * pixels)
            self.from_class = nn.Linear(classes, width * pixels) if classes else None
            self.first = nn.BatchNorm2d(2 * width)
            self.middle = _block(2 * width, 2 * width)
            self.last = _block(2 * width, width)
            self.to_pixels = nn.Conv2d(width, channels, 3, padding=1)
            self.apply(_initialise)
        low, high = pixel_bounds(pixel_range, channels)
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images for noise (n, NOISE); labels (n,) are for a conditional generator."""
        hidden = self.from_noise(noise)
        if self.from_class is not None:
            assert labels is not None, "a conditional generator needs labels"
            told = F.one_hot(labels, self._classes).to(noise.dtype)
            hidden = torch.cat([hidden, self.from_class(told)], dim=1)
        features = self.first(hidden.view(len(noise), -1, *self._sizes[0]))
        features = self.middle(F.interpolate(features, self._sizes[1]))
        features = self.last(F.interpolate(features, self._sizes[2]))
        return self.low + (self.high - self.low) * torch.sigmoid(self.to_pixels(features))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, _DEVIATION)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, _DEVIATION)
        nn.init.zeros_(layer.bias)
