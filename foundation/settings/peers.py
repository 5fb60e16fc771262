"""What the peers of FedF²DG have in common: a student and, for most, a generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from .declaration import Section, key
from .distillation import Statistics


@dataclass(frozen=True)
class StudentSettings(Section, binds="generate"):
    """How the global model learns from pseudo images."""

    batch_size: int = key(
        64,
        "Images made at once, and images per step of the student (the papers: 128 to 256).",
        unit="images",
        minimum=2,
    )
    learning_rate: float = key(
        0.01,
        "SGD's first step size on the global model; it falls to 0 along half a cosine.",
        above=0.0,
    )
    statistics: Statistics = key(
        "update",
        "What BatchNorm layers of the student normalise with: the batch, which moves their running "
        "statistics (update: the papers), or the federated statistics, which stay (frozen).",
        choices=get_args(Statistics),
    )


@dataclass(frozen=True)
class GeneratorSettings(StudentSettings):
    """A generator of images, and a student that learns from them; the section of each method."""

    width: int = key(
        32,
        "Channels of the generator's last hidden layer (the papers' programs: 64).",
        unit="channels",
        minimum=1,
    )
    generator_learning_rate: float = key(
        1e-2,
        "Adam's step size on generator and noise (the papers' programs: 0.001, for many more "
        "steps).",
        above=0.0,
    )


@dataclass(frozen=True)
class GrowingPoolSettings(GeneratorSettings):
    """A batch of images for each epoch, and a pass over all that there are so far."""

    epochs: int = key(
        20,
        "Batches of images, after each of which the student passes over all there are (the "
        "papers: 200).",
        unit="epochs",
        minimum=1,
    )
    steps: int = key(30, "Steps of the generator for each batch.", unit="steps", minimum=1)
