"""Krum (Blanchard et al. 2017), as Flower implements it: the model nearest to the others."""

from __future__ import annotations

from flwr.serverapp.strategy import Krum

from .flower import from_flower

algorithm = from_flower(
    "krum",
    lambda configuration: Krum(num_malicious_nodes=configuration.robust.malicious_clients),
    fewest_replies=lambda configuration: 2 * configuration.robust.malicious_clients + 3,
)
