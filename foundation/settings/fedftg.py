"""The section ``fedftg``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import key
from .peers import GeneratorSettings


@dataclass(frozen=True)
class FedFTGSettings(GeneratorSettings, name="fedftg"):
    """FedFTG (Zhang et al. 2022)."""

    iterations: int = key(
        200,
        "Turns of one step of the generator and several of the student (the paper: 10 after every "
        "federated round).",
        unit="steps",
        minimum=1,
    )
    warm_up: int = key(
        100,
        "Steps of the generator before the student begins to learn: the first images are noise.",
        unit="steps",
        minimum=0,
    )
    # Smaller than elsewhere: here the images change while the student learns, and none is kept.
    learning_rate: float = key(
        0.002,
        "SGD's first step size on the global model; it falls to 0 along half a cosine.",
        above=0.0,
    )
    generator_learning_rate: float = key(1e-3, "Adam's step size on the generator.", above=0.0)
    student_steps: int = key(5, "Steps of the student in each turn.", unit="steps", minimum=1)
    discrepancy_weight: float = key(
        1.0,
        "Weight of the discrepancy of global and local models, which the generator seeks.",
        symbol="λ_md",
        minimum=0.0,
    )
    diversity_weight: float = key(
        1.0, "Weight of the images' diversity.", symbol="λ_dis", minimum=0.0
    )
