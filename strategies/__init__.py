"""Federated algorithms: one file each, the server's and the client's half side by side."""

from .algorithm import Algorithm
from .client import ClientAlgorithm
from .flower import from_flower
from .registry import get, label_loss, prior_left, shared_model
from .server import FederatedStrategy, LocalUpdate, RoundOutcome, TooFewReplies

__all__ = [
    "Algorithm",
    "ClientAlgorithm",
    "FederatedStrategy",
    "LocalUpdate",
    "RoundOutcome",
    "TooFewReplies",
    "from_flower",
    "get",
    "label_loss",
    "prior_left",
    "shared_model",
]
