"""The section ``fedvls``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class FedVLSSettings(Section, name="fedvls"):
    """FedVLS's settings (Guo et al. 2025)."""

    distillation: float = key(1.0, "Weight λ of the vacant-class distillation.", minimum=0.0)
    suppression: float = key(0.005, "Weight w of the logit suppression.", minimum=0.0)
