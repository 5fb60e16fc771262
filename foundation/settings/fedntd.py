"""The section ``fedntd``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class FedNTDSettings(Section, name="fedntd"):
    """FedNTD's settings (Lee et al. 2022)."""

    beta: float = key(
        1.0, "Weight β of the not-true distillation; 0 is cross-entropy.", minimum=0.0
    )
    temperature: float = key(1.0, "Temperature T of the not-true distillation.", above=0.0)
