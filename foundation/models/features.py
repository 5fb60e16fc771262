"""The features of images: what enters a classifier's head, whatever the classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .head import head_name
from .predictions import predicted_logits


def features_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the input of the head for every image, (n, d) float32 on the CPU.

    Parameters
    ----------
    model : nn.Module
        A classifier with a linear head, in the mode it is to be used in.
    images : Tensor
        (n, C, H, W), n at least 1, in the model's input space, on any device.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().float().cpu())

    handle = model.get_submodule(head_name(model)).register_forward_pre_hook(keep)
    try:
        predicted_logits(model, images)
    finally:
        handle.remove()
    return torch.cat(seen)
