"""A model's state is three things, and federated learning treats each in its own way.

1. *Trainable parameters*: what the optimisation algorithm acts on. Frozen ones stay what they are.
2. *Float buffers* (BatchNorm running mean and variance): statistics; always averaged by weight,
   never corrected and never extrapolated, because extrapolation can push a running variance
   below zero, after which the model outputs NaN.
3. *Integer buffers* (``num_batches_tracked``): counters; they keep their dtype.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class StateLayout:
    """Which keys of a state dictionary are what, in its order.

    Of the ``frozen`` ones, no algorithm moves them: parameters that are not trained
    (``requires_grad=False``), such as those of a pretrained encoder, and the buffers of their
    layers. ``batch_norm`` tells whether the model has BatchNorm, which cannot train on a batch of
    one image.
    """

    parameters: tuple[str, ...]
    float_buffers: tuple[str, ...]
    integer_buffers: tuple[str, ...]
    frozen: tuple[str, ...] = ()
    batch_norm: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """Read the layout from a model."""
        trained = {
            name: parameter.requires_grad
            for name, parameter in model.named_parameters(remove_duplicate=False)
        }
        parameters: list[str] = []
        frozen: list[str] = []
        floats, integers = [], []
        held = {layer for layer, module in model.named_modules() if is_frozen(module)}
        for name, value in model.state_dict().items():
            if name in trained:
                (parameters if trained[name] else frozen).append(name)
            elif name.rpartition(".")[0] in held:
                frozen.append(name)
            elif value.is_floating_point():
                floats.append(name)
            else:
                integers.append(name)
        return cls(
            tuple(parameters),
            tuple(floats),
            tuple(integers),
            tuple(frozen),
            has_batch_norm(model),
        )


def is_frozen(layer: nn.Module) -> bool:
    """Tell whether a layer has parameters of its own, and none of them is trained."""
    own = list(layer.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def has_batch_norm(model: nn.Module) -> bool:
    """Tell whether a model has BatchNorm, which cannot train on a batch of one image."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def cpu_state(model: nn.Module) -> State:
    """Return a detached CPU copy of a model's state dictionary."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in model.state_dict().items()
    }


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Copy ``state`` into ``model`` in place, on the model's device, and return the model.

    A ValueError names the first differences where names, shapes or types differ.
    """
    problem = state_difference(model.state_dict(), state)
    if problem:
        raise ValueError(f"these weights belong to another model: {problem}")
    with torch.no_grad():
        for name, target in model.state_dict().items():
            target.copy_(state[name])
    return model


def state_difference(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> str:
    """Describe how the names, shapes or dtypes of two states differ; empty if they agree."""
    missing = [name for name in expected if name not in actual]
    extra = [name for name in actual if name not in expected]
    if missing:
        return f"{len(missing)} entries missing, the first is {missing[0]!r}"
    if extra:
        return f"{len(extra)} unknown entries, the first is {extra[0]!r}"
    for name, value in expected.items():
        other = actual[name]
        if value.shape != other.shape:
            return f"{name!r} has shape {tuple(other.shape)} instead of {tuple(value.shape)}"
        if value.dtype != other.dtype:
            return f"{name!r} has type {other.dtype} instead of {value.dtype}"
    return ""


def first_non_finite(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first entry that holds a NaN or an infinity, or None."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Return the hash of a state, in whatever order it is."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def interpolated(start: Mapping[str, Tensor], end: Mapping[str, Tensor], step: float) -> State:
    """Return w(λ) = w + λ·(w' - w) between states of one architecture, λ = ``step`` in [0, 1].

    At 0 and 1 the result equals ``start`` and ``end`` bit for bit. Running variances stay above 0,
    as in between a mean of two is formed. What is not floating point is that of ``end`` except at
    0.
    """
    if step in (0.0, 1.0):
        return {name: value.clone() for name, value in (end if step else start).items()}
    return {
        name: torch.lerp(start[name], value, step) if value.is_floating_point() else value.clone()
        for name, value in end.items()
    }
