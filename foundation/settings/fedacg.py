"""The section ``fedacg``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class FedACGSettings(Section, name="fedacg"):
    """FedACG's settings (Kim et al. 2024)."""

    momentum: float = key(
        0.85, "Momentum λ of the server, by which clients look ahead.", minimum=0.0, maximum=0.999
    )
    pull: float = key(
        0.01, "Weight β of the pull (β/2)·‖y − z‖² to where a client started.", minimum=0.0
    )
