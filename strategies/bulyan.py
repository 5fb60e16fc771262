"""Bulyan (El Mhamdi et al. 2018), as Flower implements it: Krum, then a trimmed mean."""

from __future__ import annotations

from flwr.serverapp.strategy import Bulyan

from foundation.settings.robust import RobustSettings

from .flower import from_flower

algorithm = from_flower(
    "bulyan",
    lambda run: Bulyan(num_malicious_nodes=run.section(RobustSettings).malicious_clients),
    fewest_replies=lambda run: 4 * run.section(RobustSettings).malicious_clients + 3,
)
