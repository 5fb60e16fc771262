"""FedAvgM (Hsu, Qi and Brown 2019), as Flower implements it: momentum on the server."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAvgM

from foundation.settings.server_optimizer import ServerOptimizerSettings

from .flower import from_flower

algorithm = from_flower(
    "fedavgm",
    lambda configuration: FedAvgM(
        server_learning_rate=configuration.section(ServerOptimizerSettings).step(1.0),
        server_momentum=configuration.section(ServerOptimizerSettings).momentum,
    ),
)
