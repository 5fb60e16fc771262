"""The section ``co-boosting``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import key
from .peers import GrowingPoolSettings


@dataclass(frozen=True)
class CoBoostingSettings(GrowingPoolSettings, name="co-boosting"):
    """Co-Boosting (Dai et al. 2024)."""

    gamma: float = key(
        1.0,
        "Exponent of the weight (1 − p_y)^γ of an image's cross-entropy; 0: all weigh the same.",
        symbol="γ",
        minimum=0.0,
    )
    disagreement_weight: float = key(
        1.0, "Weight of the disagreement of ensemble and global model.", symbol="β", minimum=0.0
    )
    bn_weight: float = key(
        0.0,
        "Weight of the distance to the members' BatchNorm statistics, which the paper leaves out.",
        minimum=0.0,
    )
    epsilon: float = key(
        8.0,
        "Size of the sign step that makes images more diverse before the student sees them.",
        symbol="255·ε",
        unit="of 255 levels of brightness",
        minimum=0.0,
        maximum=255.0,
    )
    mu: float = key(
        0.1,
        "Size, times the number of local models, of a sign step on the ensemble's weights; 0: the "
        "weights stay equal.",
        symbol="μ",
        minimum=0.0,
    )
    temperature: float = key(4.0, "Temperature T of the soft labels.", symbol="T", above=0.0)
