"""The section ``fedrs``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class FedRSSettings(Section, name="fedrs"):
    """FedRS's settings (Li and Zhan 2021)."""

    alpha: float = key(
        0.5,
        "Factor α of the logits of classes that a client does not have; 1 is cross-entropy.",
        minimum=0.0,
        maximum=1.0,
    )
