"""The head of a classifier: its last linear layer, whose outputs are the logits.

C is the number of classes, d that of features.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from .state import State


@dataclass(frozen=True)
class LinearHead:
    """Logits z = W·f + b of features f; W (C, d) and b (C,) are float64."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Return (n, C) float64 for features (n, d)."""
        return features.double() @ self.weight.T + self.bias

    def scaled(self, factor: float) -> Self:
        """Return the head whose logits are ``factor`` times these."""
        return type(self)(factor * self.weight, factor * self.bias)

    def within(self, old: Self, known: Tensor) -> Self:
        """Return ``old``, (C, d), with the rows of the ``known`` classes, (C,) bool, replaced.

        What is added to all rows of a head changes no prediction among them, so the new rows can be
        moved to where the mean of the old ones is. Beside the mean logit of the known classes every
        other class then stands where it stood.
        """
        weight, bias = old.weight.clone(), old.bias.clone()
        weight[known] = self.weight + (old.weight[known].mean(0) - self.weight.mean(0))
        bias[known] = self.bias + (old.bias[known].mean() - self.bias.mean())
        return type(self)(weight, bias)


def logit_spread(head: LinearHead, means: Tensor, covariance: Tensor, shares: Tensor) -> float:
    """Return the root mean square of the logits, less their mean over the classes.

    With W' and b' the head less the mean of its rows, the mean of ‖W'f + b'‖²/C over features f of
    the classes is Σ_c π_c·‖W'μ_c + b'‖²/C + tr(W'ΣW'ᵀ)/C. Two heads of the same spread are about as
    sure of themselves; the quotient of two spreads is a temperature. π sums to 1.
    """
    weight, bias = head.weight - head.weight.mean(0), head.bias - head.bias.mean()
    between = shares.double() @ (means.double() @ weight.T + bias).square().mean(1)
    within = ((weight @ covariance.double()) * weight).sum(1).mean()
    return math.sqrt(float(between + within))


def head_name(model: nn.Module) -> str:
    """Return the name of a classifier's last linear layer, e.g. ``"head"`` or ``"fc"``.

    A ValueError says that there is none, or that it has no bias.
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


def head_parameters(state: Mapping[str, Tensor], head: str) -> tuple[Tensor, Tensor]:
    """Return a head's weight (C, d) and bias (C,), float64 on the CPU."""
    weight, bias = (state[name].double().cpu() for name in _names(head))
    return weight, bias


def with_head(state: Mapping[str, Tensor], head: str, weight: Tensor, bias: Tensor) -> State:
    """Return a copy of a state with another head, in the types and places of the old one."""
    new = dict(zip(_names(head), (weight, bias), strict=True))
    return {**state, **{name: value.to(state[name]) for name, value in new.items()}}


def _names(head: str) -> tuple[str, str]:
    prefix = f"{head}." if head else ""
    return f"{prefix}weight", f"{prefix}bias"


def add_to_bias(state: Mapping[str, Tensor], head: str, bias: Tensor) -> State:
    """Return a copy of a state whose head has ``bias``, (C,), added in float64."""
    weight, old = head_parameters(state, head)
    return with_head(state, head, weight, old + bias.cpu().double())
