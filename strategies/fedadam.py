"""FedAdam (Reddi et al. 2021), as Flower implements it: Adam on the averaged update."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAdam

from .flower import from_flower

#: η, chosen on held-out training images of the digits (docs/lab/2026-11-strategies.md).
STEP = 0.03

algorithm = from_flower(
    "fedadam",
    lambda configuration: FedAdam(
        eta=configuration.server_optimizer.step(STEP),
        beta_1=configuration.server_optimizer.beta1,
        beta_2=configuration.server_optimizer.beta2,
        tau=configuration.server_optimizer.tau,
    ),
)
