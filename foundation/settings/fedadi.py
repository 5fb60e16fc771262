"""The section ``fedadi``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import key
from .peers import StudentSettings


@dataclass(frozen=True)
class FedADISettings(StudentSettings, name="fedadi"):
    """Inversion of the ensemble of local models; ``generation.*`` says how."""

    images: int = key(
        256,
        "Pseudo images in all, as many of every class. Each step runs each of them through all "
        "local models.",
        unit="images",
        minimum=2,
    )
    epochs: int = key(100, "Passes over the pseudo images.", unit="epochs", minimum=1)
    temperature: float = key(20.0, "Temperature T of the soft labels.", symbol="T", above=0.0)
