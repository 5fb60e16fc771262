"""Which parameters of the student a distillation trains."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from foundation.models.head import head_name
from foundation.settings import Layers
from foundation.settings.post_training import SMALLEST_PHOTOGRAPH

_Normalisation = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)


def chosen_layers(model: nn.Module, layers: Layers, image_size: Sequence[int]) -> Layers:
    """Return which parameters of a federated model auto means; other values are left as they are.

    affine for photographs, whose pseudo images are no match for the real images that made the
    features; all for tiny images, which inversion reaches nearly as good as real ones, and for
    models without a linear head. `image_size` is (height, width) in pixels.
    """
    if layers != "auto":
        return layers
    return "affine" if min(image_size) >= SMALLEST_PHOTOGRAPH and _has_head(model) else "all"


def _has_head(model: nn.Module) -> bool:
    try:
        head_name(model)
    except ValueError:
        return False
    return True


def trained_parameters(model: nn.Module, layers: Layers) -> list[nn.Parameter]:
    """Return the parameters to train, in the model's order; none that requires no gradient.

    all, and auto, where nothing is known of the student: every parameter. head: weight and bias of
    the last linear layer, so that the features stay what real images made them. affine: these, and
    scale and shift of every normalisation layer, so that features may be weighed anew but not
    replaced. A ValueError says that the model has no linear layer with a bias, where one is needed.
    """
    if layers in ("auto", "all"):
        return [parameter for parameter in model.parameters() if parameter.requires_grad]
    chosen: list[nn.Module] = [model.get_submodule(head_name(model))]
    if layers == "affine":
        chosen += [module for module in model.modules() if isinstance(module, _Normalisation)]
    wanted = {id(p) for module in chosen for p in module.parameters(recurse=False)}
    return [p for p in model.parameters() if p.requires_grad and id(p) in wanted]
