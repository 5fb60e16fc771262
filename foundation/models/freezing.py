"""Layers that are not trained, such as those of a pretrained encoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .classifier import Classifier


def freeze(model: nn.Module, layers: Sequence[str]) -> None:
    """Take the parameters of layers out of the training.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    layers : sequence of str
        Names of layers or parameters as ``named_parameters`` has them, such as ``encoder`` or
        ``encoder.0``; what is below a layer belongs to it.

    Raises
    ------
    ValueError
        If a name fits no parameter, or nothing would be left to train.
    """
    for layer in layers:
        below = [
            parameter
            for name, parameter in model.named_parameters(remove_duplicate=False)
            if name == layer or name.startswith(f"{layer}.")
        ]
        if not below:
            known = [name for name, _ in model.named_children()]
            known += [
                f"encoder.{name}" for name, _ in model.get_submodule("encoder").named_children()
            ]
            raise ValueError(
                f"freeze = {layer!r} fits no layer with parameters; the model has "
                f"{', '.join(known)} and what is below them"
            )
        for parameter in below:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freeze = {','.join(layers)!r} leaves nothing to train")


def encoder_is_frozen(model: Classifier) -> bool:
    """Tell whether no parameter of the encoder is trained."""
    return not any(parameter.requires_grad for parameter in model.encoder.parameters())


def hold_frozen_statistics(model: nn.Module) -> None:
    """Put normalisation layers whose parameters are all frozen into evaluation mode.

    In training mode their running statistics would follow the client's images, and change what a
    frozen encoder computes.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
