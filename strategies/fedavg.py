"""FedAvg (McMahan et al. 2017): x⁺ = Σ p_i y_i."""

from __future__ import annotations

from .algorithm import Algorithm
from .client import ClientAlgorithm
from .server import FederatedStrategy


class FedAvg(FederatedStrategy):
    """Server half: the base class is already FedAvg."""


class FedAvgClient(ClientAlgorithm):
    """Client half: plain local training."""


algorithm = Algorithm("fedavg", FedAvg, FedAvgClient)
