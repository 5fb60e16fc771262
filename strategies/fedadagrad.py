"""FedAdagrad (Reddi et al. 2021), as Flower implements it: Adagrad on the averaged update."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAdagrad

from foundation.settings.server_optimizer import ServerOptimizerSettings

from .flower import from_flower

#: η, chosen on held-out training images of the digits (docs/lab/2026-11-strategies.md).
STEP = 0.01

algorithm = from_flower(
    "fedadagrad",
    lambda configuration: FedAdagrad(
        eta=configuration.section(ServerOptimizerSettings).step(STEP),
        tau=configuration.section(ServerOptimizerSettings).tau,
    ),
)
