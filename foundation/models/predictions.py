"""What a model says of images that are not on its device, a bounded number at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .device import device_of

_AT_ONCE = 256


@torch.no_grad()
def predicted_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return a model's logits, (n, classes) float32 on the CPU.

    Parameters
    ----------
    model : nn.Module
        A classifier in the mode it is to be used in.
    images : Tensor
        (n, C, H, W), n at least 1, in the model's input space, on any device.
    """
    return torch.cat(
        [model(part.to(device_of(model))).float().cpu() for part in images.split(_AT_ONCE)]
    )
