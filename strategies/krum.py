"""Krum (Blanchard et al. 2017), as Flower implements it: the model nearest to the others."""

from __future__ import annotations

from flwr.serverapp.strategy import Krum

from foundation.settings.robust import RobustSettings

from .flower import from_flower

algorithm = from_flower(
    "krum",
    lambda run: Krum(num_malicious_nodes=run.section(RobustSettings).malicious_clients),
    fewest_replies=lambda run: 2 * run.section(RobustSettings).malicious_clients + 3,
)
