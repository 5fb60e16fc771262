"""The head of a classifier: its last linear layer, whose outputs are the logits."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .state import State


def head_name(model: nn.Module) -> str:
    """Return the name of a classifier's last linear layer, e.g. ``"head"`` or ``"fc"``.

    Raises
    ------
    ValueError
        If there is none, or it has no bias; the message says so.
    """
    linear: list[str] = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear)
    ]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer whose bias could be changed")
    head = model.get_submodule(linear[-1])
    if not isinstance(head.bias, Tensor):
        raise ValueError(f"the last linear layer of {type(model).__name__} has no bias")
    return linear[-1]


def add_to_bias(state: Mapping[str, Tensor], head: str, bias: Tensor) -> State:
    """Return a copy of a state whose head has ``bias`` (C,) added to its own.

    Parameters
    ----------
    state : Mapping[str, Tensor]
        A model's state dictionary.
    head : str
        As :func:`head_name` gives it.
    bias : Tensor
        (C,), any float type; added in float64.
    """
    name = f"{head}.bias" if head else "bias"
    old = state[name]
    return {**state, name: (old.double() + bias.to(old.device).double()).to(old.dtype)}
