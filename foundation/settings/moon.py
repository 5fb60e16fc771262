"""The section ``moon``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class MoonSettings(Section, name="moon"):
    """MOON's settings (Li et al. 2021)."""

    mu: float = key(
        1.0, "Weight μ of the model-contrastive loss.", symbol="μ", minimum=0.0, original="mu"
    )
    temperature: float = key(0.5, "Temperature of the contrastive loss.", symbol="τ", above=0.0)
    projection_dim: int = key(
        256,
        "Output size of the projection head; used by the strategy moon only.",
        minimum=1,
        original="out_dim",
    )
