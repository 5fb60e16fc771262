"""The section ``schedule``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class ScheduleSettings(Section):
    """The local step size, and the weight of a proximal term, over the rounds."""

    of: str = key(
        "learning-rate",
        "What the schedule multiplies: learning-rate; mu, the weight of FedProx's proximal term "
        "(proximal-mu) and of MOON's contrastive loss (moon.mu); or both.",
        choices=("learning-rate", "mu", "both"),
    )

    kind: str = key(
        "constant",
        "How it changes over the rounds: constant; cosine, from the whole of it along "
        "half a cosine towards 0; step, multiplied by schedule.decay every schedule.every rounds. "
        "Rounds of the competition loop keep the last one's.",
        choices=("constant", "cosine", "step"),
    )
    warm_up_rounds: int = key(
        0,
        "First rounds in which the step size grows evenly, before the schedule begins.",
        unit="rounds",
        minimum=0,
    )
    decay: float = key(0.1, "Factor of the schedule step.", above=0.0, maximum=1.0)
    every: int = key(10, "Rounds between two factors of the schedule step.", minimum=1)

    def factor(self, server_round: int, rounds: int) -> float:
        """Return the schedule's factor in a round r, from 1, of R; above 0, at most 1.

        Behind the last round it stays as it was there.
        """
        position = min(server_round, rounds)
        if position <= self.warm_up_rounds:
            return position / (self.warm_up_rounds + 1)
        done = position - 1 - self.warm_up_rounds
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done / (rounds - self.warm_up_rounds)))
        if self.kind == "step":
            return float(self.decay ** (done // self.every))
        return 1.0
