"""The section ``feddyn``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class FedDynSettings(Section, name="feddyn"):
    """FedDyn's setting (Acar et al. 2021)."""

    alpha: float = key(
        0.05, "Weight α of the pull (α/2)·‖y − x‖², and of what is remembered.", above=0.0
    )
