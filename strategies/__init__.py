"""Federated algorithms: one file each, the server's and the client's half side by side."""

from .algorithm import Algorithm
from .client import ClientAlgorithm
from .flower import from_flower
from .registry import algorithms, get, label_loss, prior_left
from .server import FederatedStrategy, LocalUpdate, RoundOutcome, TooFewReplies

__all__ = [
    "Algorithm",
    "ClientAlgorithm",
    "FederatedStrategy",
    "LocalUpdate",
    "RoundOutcome",
    "TooFewReplies",
    "algorithms",
    "from_flower",
    "get",
    "label_loss",
    "prior_left",
]
