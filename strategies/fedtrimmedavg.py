"""The trimmed mean (Yin et al. 2018), as Flower implements it, coordinate by coordinate."""

from __future__ import annotations

from flwr.serverapp.strategy import FedTrimmedAvg

from foundation.settings.robust import RobustSettings

from .flower import from_flower

algorithm = from_flower(
    "fedtrimmedavg",
    lambda run: FedTrimmedAvg(beta=run.section(RobustSettings).trimmed_fraction),
)
