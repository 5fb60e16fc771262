"""FedAdam (Reddi et al. 2021), as Flower implements it: Adam on the averaged update."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAdam

from foundation.settings.server_optimizer import ServerOptimizerSettings

from .flower import from_flower

#: η, chosen on held-out training images of the digits (docs/lab/2026-11-strategies.md).
STEP = 0.03

algorithm = from_flower(
    "fedadam",
    lambda configuration: FedAdam(
        eta=configuration.section(ServerOptimizerSettings).step(STEP),
        beta_1=configuration.section(ServerOptimizerSettings).beta1,
        beta_2=configuration.section(ServerOptimizerSettings).beta2,
        tau=configuration.section(ServerOptimizerSettings).tau,
    ),
)
