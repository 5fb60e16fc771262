"""The section ``competition``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .declaration import Section, key

Retrain = Literal["once", "every"]


@dataclass(frozen=True)
class CompetitionSettings(Section):
    """The competition loop: hard samples, on which local and global model disagree."""

    rounds: int = key(
        1,
        "Repetitions of (local training,) hard samples, distillation; 0: what comes behind the "
        "competition follows the first distillation.",
        minimum=0,
        original="comm_round",
        binds="compete",
    )
    batches: int = key(
        1,
        "Batches of hard samples per repetition.",
        minimum=1,
        original="num_batch",
        binds="compete",
    )
    weight: float = key(
        10.0,
        "Weight of the competition term, 1 - JS(local, global).",
        symbol="a_c",
        minimum=0.0,
        original="cig_scale",
        binds="compete",
    )
    retrain: Retrain = key(
        "every",
        "Train a federated round from the distilled model before every repetition (the paper's "
        "figure), or only before the first (what the reference implementation does).",
        choices=get_args(Retrain),
        binds="compete",
    )
