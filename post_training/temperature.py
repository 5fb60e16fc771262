"""How sure a head is, without an image: the spread of its logits over Gaussian features."""

from __future__ import annotations

import math

from torch import Tensor

from .linear_head import LinearHead


def logit_spread(head: LinearHead, means: Tensor, covariance: Tensor, shares: Tensor) -> float:
    """Return the root mean square of the logits, less their mean over the classes.

    With W' and b' the head less the mean of its rows, the mean of ‖W'f + b'‖²/C over features f of
    the classes is Σ_c π_c·‖W'μ_c + b'‖²/C + tr(W'ΣW'ᵀ)/C. Two heads of the same spread are about as
    sure of themselves; the quotient of two spreads is a temperature.

    Parameters
    ----------
    head : LinearHead
        (C, d).
    means : Tensor
        (C, d), μ_c.
    covariance : Tensor
        (d, d), Σ.
    shares : Tensor
        (C,), π_c, whose sum is 1.
    """
    weight, bias = head.weight - head.weight.mean(0), head.bias - head.bias.mean()
    between = shares.double() @ (means.double() @ weight.T + bias).square().mean(1)
    within = ((weight @ covariance.double()) * weight).sum(1).mean()
    return math.sqrt(float(between + within))
