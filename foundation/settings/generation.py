"""The section ``generation``: an inversion, and how many images it makes where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from .competition import CompetitionSettings
from .declaration import key
from .inversion import InversionSettings

Place = Literal["server", "client"]
Labels = Literal["principle", "balanced"]


@dataclass(frozen=True)
class GenerationSettings(InversionSettings):
    """Model inversion and the data generation principle (Zhao et al. 2024)."""

    images_per_client: int = key(
        64,
        "Mean number of pseudo images per client and batch (B of the data generation principle).",
        unit="images",
        symbol="B",
        minimum=1,
        original="bs",
        binds="generate",
    )
    batches: int = key(
        1,
        "Batches of common samples; from the second on budgets follow the quality term.",
        minimum=1,
        original="num_batch",
        binds="generate",
    )
    labels: Labels = key(
        "principle",
        "Which classes images are made for. principle: each client's own label distribution (the "
        "paper), which makes few images of rare classes, or none. balanced: as many of every "
        "class, each shared out over the clients by how many images of it they hold.",
        choices=get_args(Labels),
        binds="generate",
    )
    place: Place = key(
        "server",
        "Where local models are inverted.",
        choices=get_args(Place),
        binds="generate",
    )


def inversion_of(
    kind: str, generation: GenerationSettings, competition: CompetitionSettings
) -> InversionSettings:
    """Return the settings of an inversion of one kind.

    Parameters
    ----------
    kind : {"common", "hard"}
        Hard samples have a competition weight of their own.
    generation, competition
        The sections of those names.
    """
    if kind == "hard":
        return replace(generation, competition_weight=competition.weight)
    return generation
