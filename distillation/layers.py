"""Which parameters of the student a distillation trains."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.head import head_name
from settings import Layers

_Normalisation = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)


def trained_parameters(model: nn.Module, layers: Layers) -> list[nn.Parameter]:
    """Return the parameters to train, in the model's order; none that requires no gradient.

    Parameters
    ----------
    model : nn.Module
        A classifier.
    layers : {"all", "head", "affine"}
        all: every parameter. head: weight and bias of the last linear layer, so that the features
        stay what real images made them. affine: these, and scale and shift of every normalisation
        layer, so that features may be weighed anew but not replaced.

    Raises
    ------
    ValueError
        If the model has no linear layer with a bias, where one is needed.
    """
    if layers == "all":
        return [parameter for parameter in model.parameters() if parameter.requires_grad]
    chosen: list[nn.Module] = [model.get_submodule(head_name(model))]
    if layers == "affine":
        chosen += [module for module in model.modules() if isinstance(module, _Normalisation)]
    wanted = {id(p) for module in chosen for p in module.parameters(recurse=False)}
    return [p for p in model.parameters() if p.requires_grad and id(p) in wanted]
