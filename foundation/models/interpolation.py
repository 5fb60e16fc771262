"""Models between two models."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .state import State


def interpolated(start: Mapping[str, Tensor], end: Mapping[str, Tensor], step: float) -> State:
    """Return w(λ) = w + λ·(w' - w).

    Running variances stay above 0, as between 0 and 1 a mean of two is formed.

    Parameters
    ----------
    start, end : Mapping[str, Tensor]
        w and w': states of one architecture.
    step : float
        λ in [0, 1]. At 0 and 1 the result equals ``start`` and ``end`` bit for bit.

    Returns
    -------
    State
        What is not floating point is that of ``end`` except at λ = 0.

    Raises
    ------
    ValueError
        If λ is outside [0, 1].
    """
    if not 0.0 <= step <= 1.0:
        raise ValueError(f"step = {step:g}: must be from 0 to 1")
    if step in (0.0, 1.0):
        return {name: value.clone() for name, value in (end if step else start).items()}
    return {
        name: torch.lerp(start[name], value, step) if value.is_floating_point() else value.clone()
        for name, value in end.items()
    }
