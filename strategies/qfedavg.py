"""q-FedAvg (Li et al. 2020), as Flower implements it: clients of high loss weigh more.

The loss is the mean over a client's round; the paper takes the one at the round's start.
"""

from __future__ import annotations

from flwr.serverapp.strategy import QFedAvg

from .flower import from_flower

algorithm = from_flower(
    "qfedavg",
    lambda configuration: QFedAvg(
        client_learning_rate=configuration.learning_rate,
        q=configuration.server_optimizer.fairness,
        train_loss_key="train-loss",
    ),
)
