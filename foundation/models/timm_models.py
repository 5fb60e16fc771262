"""The classifiers of timm (PyTorch Image Models) as encoders, by ``model=timm/NAME``."""

from typing import Any

import torch
from torch import nn

from .classifier import Model, Pixels
from .state import State, cpu_state

PREFIX = "timm/"


def timm_encoder(channels: int, image_size: tuple[int, int], *, name: str) -> tuple[nn.Module, int]:
    """Build a classifier of timm without its head, with fresh weights and nothing drawn at random.

    A ValueError says that timm is not installed, has no such model, or none for such images.
    """
    timm = _timm(name)
    options = {"img_size": image_size} if _configuration(name).fixed_input_size else {}
    try:
        network: nn.Module = timm.create_model(
            _bare(name), pretrained=False, num_classes=0, in_chans=channels, **options
        )
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for rate in ("drop_prob", "drop_rate"):  # of stochastic depth, of a head
                if isinstance(getattr(module, rate, None), float):
                    setattr(module, rate, 0.0)
        with torch.inference_mode():
            features = network.eval()(torch.zeros(1, channels, *image_size)).flatten(1)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise ValueError(
            f"model {name!r} cannot be built for {channels} channels of "
            f"{image_size[0]}x{image_size[1]} pixels: {error}"
        ) from error
    return network.train(), features.shape[1]


def pixel_constants(name: str) -> Pixels:
    """Return the mean and deviation that the trained weights of a model want, by channel."""
    configuration = _configuration(name)
    return tuple(configuration.mean), tuple(configuration.std)


def downloaded(name: str) -> State:
    """Return timm's trained weights for a model, from its cache or the network.

    A ValueError says that there are none, or that they cannot be reached.
    """
    try:
        return cpu_state(_timm(name).create_model(_bare(name), pretrained=True, num_classes=0))
    except (OSError, RuntimeError) as error:
        source = _configuration(name).hf_hub_id or _configuration(name).url or "there are none"
        raise ValueError(
            f"timm's weights for {name!r} could not be downloaded ({source}): fetch them where "
            "there is a network, and set initial-weights to the file"
        ) from error


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"model {name!r} needs timm, on clients too: python -m pip install 'fedf2dg[timm]'"
        ) from error
    return timm


def _configuration(name: str) -> Any:
    _timm(name)
    from timm.models import get_pretrained_cfg, is_model, list_models

    if not is_model(_bare(name)):
        similar = ", ".join(list_models(f"*{_bare(name).partition('.')[0][:8]}*")[:5])
        raise ValueError(
            f"timm has no model {_bare(name)!r}" + (f"; it has {similar}" if similar else "")
        )
    return get_pretrained_cfg(_bare(name))


def _bare(name: str) -> str:
    return name.removeprefix(PREFIX)


#: Whatever stands behind the slash, timm knows.
model = Model("timm/", timm_encoder, downloaded, pixel_constants)
