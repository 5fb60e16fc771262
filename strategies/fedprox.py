"""FedProx (Li et al. 2020): FedAvg with (μ/2)·‖y - x‖² added to every local loss."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from foundation.models import Classifier, State

from .algorithm import Algorithm
from .client import ClientAlgorithm, gradients


class Pull:
    """The gradient μ(y - x) of (μ/2)·‖y - x‖², without a graph.

    The model holds x, before the first step. μ = 0 leaves gradients as they are, bit for bit.
    """

    def __init__(self, model: Classifier, weight: float) -> None:
        self._weight = weight
        self._anchor = [p.detach().clone() for p in model.parameters() if p.requires_grad]

    @torch.no_grad()
    def add_to_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add it to the gradients of the parameters, which are at y."""
        if self._weight == 0.0:
            return
        found = gradients(parameters)
        torch._foreach_add_(found, list(parameters), alpha=self._weight)
        torch._foreach_add_(found, self._anchor, alpha=-self._weight)


class FedProxClient(ClientAlgorithm, capturable=True):
    """Client half: ``gradient += μ(y - x)``. μ = 0 is FedAvg, bit for bit."""

    def begin_round(self, model: Classifier, received: Mapping[str, State]) -> None:
        self._pull = Pull(model, self.configuration.proximal_mu)

    def adjust_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        self._pull.add_to_gradients(parameters)


algorithm = Algorithm("fedprox", client=FedProxClient)
