"""FedProx (Li et al. 2020): FedAvg with (μ/2)·‖y - x‖² added to every local loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from foundation.models import Classifier, State
from foundation.settings.configuration import RunConfiguration

from .algorithm import Algorithm
from .client import ClientAlgorithm, gradients


class FedProxClient(ClientAlgorithm):
    """Client half: ``gradient += μ(y - x)``, the proximal term's gradient, without a graph.

    μ = 0 is FedAvg, bit for bit.
    """

    def __init__(self, configuration: RunConfiguration) -> None:
        super().__init__(configuration)
        self._anchor: list[Tensor] = []

    def begin_round(self, model: Classifier, received: Mapping[str, State]) -> None:
        """Remember x."""
        self._anchor = [
            parameter.detach().clone()
            for parameter in model.parameters()
            if parameter.requires_grad
        ]

    @torch.no_grad()
    def adjust_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add the proximal gradient."""
        mu = self.configuration.proximal_mu
        if mu == 0.0:
            return
        found = gradients(parameters)
        torch._foreach_add_(found, list(parameters), alpha=mu)
        torch._foreach_add_(found, self._anchor, alpha=-mu)


algorithm = Algorithm("fedprox", client=FedProxClient)
