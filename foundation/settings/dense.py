"""The section ``dense``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import key
from .peers import GrowingPoolSettings


@dataclass(frozen=True)
class DenseSettings(GrowingPoolSettings, name="dense"):
    """DENSE (Zhang et al. 2022)."""

    bn_weight: float = key(
        0.1,
        "Weight of the distance to the members' BatchNorm statistics (the paper: 1).",
        symbol="λ1",
        minimum=0.0,
    )
    disagreement_weight: float = key(
        0.5,
        "Weight of the disagreement of ensemble and global model, where their classes differ.",
        symbol="λ2",
        minimum=0.0,
    )
    temperature: float = key(20.0, "Temperature T of the soft labels.", symbol="T", above=0.0)
