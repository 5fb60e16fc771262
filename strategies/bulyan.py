"""Bulyan (El Mhamdi et al. 2018), as Flower implements it: Krum, then a trimmed mean."""

from __future__ import annotations

from flwr.serverapp.strategy import Bulyan

from .flower import from_flower

algorithm = from_flower(
    "bulyan",
    lambda configuration: Bulyan(num_malicious_nodes=configuration.robust.malicious_clients),
    fewest_replies=lambda configuration: 4 * configuration.robust.malicious_clients + 3,
)
