"""Multi-Krum (Blanchard et al. 2017), as Flower implements it: the mean of the nearest models."""

from __future__ import annotations

from flwr.serverapp.strategy import MultiKrum

from foundation.settings.configuration import RunConfiguration
from foundation.settings.robust import RobustSettings

from .flower import from_flower


def kept(configuration: RunConfiguration) -> int:
    """Return m, the number of models to average: n - f - 2 of a full round unless it is set."""
    robust = configuration.section(RobustSettings)
    return robust.clients_to_keep or max(
        1, configuration.clients_per_round - robust.malicious_clients - 2
    )


def fewest_replies(configuration: RunConfiguration) -> int:
    """Return 2f + 3, for which Krum's scores are defined, or m + f where more are kept."""
    malicious = configuration.section(RobustSettings).malicious_clients
    return max(2 * malicious + 3, kept(configuration) + malicious)


algorithm = from_flower(
    "multikrum",
    lambda configuration: MultiKrum(
        num_malicious_nodes=configuration.section(RobustSettings).malicious_clients,
        num_nodes_to_select=kept(configuration),
    ),
    fewest_replies=fewest_replies,
)
