"""q-FedAvg (Li et al. 2020), as Flower implements it: clients of high loss weigh more.

    Δ_i = L(x - y_i);   x⁺ = x - Σ F_i^q·Δ_i / Σ (q·F_i^(q-1)·‖Δ_i‖² + L·F_i^q)

1/L is ``server-optimizer.learning-rate``. The paper takes the local step size for it, for clients
that make few steps. After many steps with momentum, ‖Δ_i‖² would then outweigh everything, and the
model would hardly move; q = 0 is the plain mean of the clients under every L. F_i is the mean loss
of a client's round; the paper takes the one at the round's start.
"""

from __future__ import annotations

from flwr.serverapp.strategy import QFedAvg

from foundation.settings.server_optimizer import ServerOptimizerSettings

from .flower import from_flower

algorithm = from_flower(
    "qfedavg",
    lambda configuration: QFedAvg(
        client_learning_rate=configuration.section(ServerOptimizerSettings).step(1.0),
        q=configuration.section(ServerOptimizerSettings).fairness,
        train_loss_key="train-loss",
    ),
)
