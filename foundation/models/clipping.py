"""Bound what one client can do to the global model: clip the norms of local updates.

The bound is a multiple of the median norm of the round's updates. It needs no tuning to the model,
and as long as fewer than half of the clients lie, they cannot move it beyond the honest norms.
(Clipping by a fixed norm: McMahan et al. 2018, "Learning Differentially Private Recurrent Language
Models"; against poisoning: Sun et al. 2019, "Can You Really Backdoor Federated Learning?".)
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from foundation.models import State


def update_norm(start: State, end: State, names: Iterable[str]) -> float:
    """Return ‖y - x‖₂ over the named entries, in float64."""
    squares = sum(
        float((end[name].double() - start[name].double()).square().sum()) for name in names
    )
    return float(squares**0.5)


def clip_factors(norms: Sequence[float], multiple: float) -> list[float]:
    """Return for every update the factor, in (0, 1], that bounds its norm.

    Parameters
    ----------
    norms : sequence of float
        ‖y_i - x‖₂, 0 or more.
    multiple : float
        The bound, in median norms, above 0.

    Returns
    -------
    list of float
        min(1, multiple·median/norm_i). All 1 if the median is 0: then there is no measure.
    """
    if not multiple > 0:
        raise ValueError(f"multiple = {multiple}: must be above 0")
    bound = multiple * statistics.median(norms)
    return [bound / norm if 0 < bound < norm else 1.0 for norm in norms]


def scaled_update(start: State, end: State, names: Iterable[str], factor: float) -> State:
    """Return x + factor·(y - x) for the named entries; the others (buffers) as they are in y."""
    if factor == 1.0:
        return end
    moved = {
        name: (start[name].double() + factor * (end[name].double() - start[name].double())).to(
            end[name].dtype
        )
        for name in names
    }
    return {**end, **moved}
