"""Weights to start from: those of an earlier run, of a file, or torchvision's own.

What belongs to other classes or other images is replaced by fresh weights and named; whatever else
does not fit is an error, since a model that is half pretrained by mistake trains without a word.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from foundation import UsageError

from .classifier import Classifier
from .directory import DESCRIPTION, WEIGHTS, ModelDescription, one_line, read_model
from .state import State, cpu_state, first_non_finite
from .torchvision_models import PREFIX, first_convolution

#: The value that asks for torchvision's own weights.
IMAGENET = "imagenet"
_HEAD, _PROJECTION, _ENCODER = "head.", "projection.", "encoder."
# Of a vision transformer: its position embedding, which is for one size of images.
_POSITION, _PATCH = "encoder.pos_embedding", 16


class InitialWeightsError(UsageError):
    """Weights to start from cannot be read, or belong to another network."""


def read_weights(source: str, architecture: str) -> tuple[State, ModelDescription | None]:
    """Read weights.

    Parameters
    ----------
    source : str
        A safetensors file, a ``model/`` directory of an earlier run, a checkpoint of torchvision's
        (``.pth``; read without running code), or ``imagenet``: what torchvision offers for the
        architecture, downloaded once into PyTorch's cache.
    architecture : str
        The name of the model that is to have them.

    Returns
    -------
    tuple
        The state, and what is known of the model it was, if that is an earlier run's.

    Raises
    ------
    InitialWeightsError
        If there are none, or they cannot be read.
    """
    if source == IMAGENET:
        return _downloaded(architecture), None
    path = Path(source)
    if path.is_dir() and not (path / WEIGHTS).is_file() and (path / "model" / WEIGHTS).is_file():
        path = path / "model"  # a run's directory
    if path.name == WEIGHTS and (path.parent / DESCRIPTION).is_file():
        path = path.parent  # its classes are known there
    try:
        if path.is_dir():
            description, model = read_model(path)
            return cpu_state(model), description
        if path.suffix in (".pth", ".pt"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            state = load_file(path)
    except UsageError as error:
        raise InitialWeightsError(f"initial-weights: {error}") from error
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise InitialWeightsError(
            f"initial-weights = {source!r} cannot be read: {one_line(error)}"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InitialWeightsError(f"initial-weights = {source!r} holds no weights by name")
    return dict(state), None


def _downloaded(architecture: str) -> State:
    if not architecture.startswith(PREFIX):
        raise InitialWeightsError(
            f"initial-weights = {IMAGENET!r} is for torchvision's models (model={PREFIX}resnet18 "
            f"and others), not for {architecture!r}"
        )
    from torchvision.models import get_model_weights

    weights = get_model_weights(architecture.removeprefix(PREFIX)).DEFAULT
    try:
        state: State = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InitialWeightsError(
            f"torchvision's weights could not be downloaded ({one_line(error)}): fetch "
            f"{weights.url} where there is a network, and set initial-weights to the file"
        ) from error
    return state


def fitted(
    model: Classifier,
    given: Mapping[str, Tensor],
    *,
    same_classes: bool = True,
) -> tuple[State, list[str]]:
    """Return the state that a model starts from, and what of it is fresh.

    Parameters
    ----------
    model : Classifier
        Has the fresh weights.
    given : Mapping[str, Tensor]
        As :func:`read_weights` returns them: this project's names, or those of torchvision's
        classifiers.
    same_classes : bool (default: True)
        Whether the given head is for the model's classes, in their order.

    Returns
    -------
    tuple
        The state, and sentences that name the parts that were not taken, and why.

    Raises
    ------
    InitialWeightsError
        If something of the encoder is missing, has another shape or is not finite, or there is
        something unknown.
    """
    fresh = cpu_state(model)
    if not all(name.startswith((_ENCODER, _HEAD, _PROJECTION)) for name in given):
        given = _from_torchvision(given, fresh)
    if broken := first_non_finite(dict(given)):
        raise InitialWeightsError(f"initial-weights: {broken!r} holds NaN or infinite values")
    decided, left = _decided_otherwise(model, given, fresh, same_classes)
    state = {**fresh, **decided}
    for name, value in fresh.items():
        if name in decided:
            continue
        if name not in given:
            if name.endswith("num_batches_tracked"):
                continue  # older checkpoints lack it, and nothing depends on it
            raise InitialWeightsError(f"initial-weights: {name!r} is missing")
        if given[name].shape != value.shape:
            raise InitialWeightsError(
                f"initial-weights: {name!r} has shape {tuple(given[name].shape)} instead of "
                f"{tuple(value.shape)}: they belong to another network"
            )
        state[name] = given[name].detach().to(value.dtype).contiguous()
    unknown = [n for n in given if n not in fresh and not n.startswith((_HEAD, _PROJECTION))]
    if unknown:
        raise InitialWeightsError(
            f"initial-weights: {len(unknown)} entries belong to another network, the first is "
            f"{unknown[0]!r}"
        )
    return state, left


def _decided_otherwise(
    model: Classifier, given: Mapping[str, Tensor], fresh: State, same_classes: bool
) -> tuple[State, list[str]]:
    """Return the entries that are not taken as they were given, and sentences that say why."""
    decided: State = {}
    left: list[str] = []
    projection = [name for name in fresh if name.startswith(_PROJECTION)]
    if any(name not in given or given[name].shape != fresh[name].shape for name in projection):
        decided.update({name: fresh[name] for name in projection})
        left.append("the projection head is new")
    head = [name for name in fresh if name.startswith(_HEAD)]
    if not same_classes or any(
        name not in given or given[name].shape != fresh[name].shape for name in head
    ):
        decided.update({name: fresh[name] for name in head})
        left.append("the classifier's head is new: the weights are for other classes")
    first = f"{_ENCODER}{first_convolution(model.encoder)}.weight"
    if first in given and first in fresh and given[first].shape != fresh[first].shape:
        old, new = given[first].shape, fresh[first].shape
        if old[0] == new[0] and old[2:] == new[2:] and new[1] == 1:
            # Grey is three equal channels, whose weights add up.
            decided[first] = given[first].sum(dim=1, keepdim=True).to(fresh[first].dtype)
            left.append("the first convolution is summed over the colours, for grey images")
        elif old[0] == new[0] and old[1] == new[1]:
            decided[first] = fresh[first]
            left.append(
                f"the first convolution is new: its window is {new[2]}x{new[3]} for small images, "
                f"not {old[2]}x{old[3]}"
            )
    return decided, left


def _from_torchvision(given: Mapping[str, Tensor], fresh: State) -> dict[str, Tensor]:
    """Give entries of a torchvision checkpoint our names; its own last layer is left out."""
    last = list(given)[-1].rpartition(".")[0] if given else ""
    position, ours = given.get(_POSITION), fresh.get(f"{_ENCODER}{_POSITION}")
    if position is not None and ours is not None and position.shape != ours.shape:
        from torchvision.models.vision_transformer import interpolate_embeddings

        side = _PATCH * math.isqrt(ours.shape[1] - 1)
        given = interpolate_embeddings(side, _PATCH, OrderedDict(given))
    return {
        f"{_ENCODER}{name}": value
        for name, value in given.items()
        if name.rpartition(".")[0] != last or f"{_ENCODER}{name}" in fresh
    }
