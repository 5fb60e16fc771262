"""Logit adjustment by the client's own label prior (Menon et al. 2021; Ren et al. 2020).

    loss = CE(z + τ·log(π + ε), y),    π_c = n_c / n

The local model learns likelihoods instead of its client's prior, so classes that the client has
few of, or none, are not pushed down. It costs no message and no forward pass.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.models import Classifier
from foundation.settings.algorithms import LogitAdjustmentSettings
from foundation.settings.configuration import RunConfiguration

from .local_loss import ClientLoss, LocalLoss


def log_prior(label_counts: Tensor, tau: float, epsilon: float) -> Tensor:
    """Return τ·log(π + ε), shifted so that its largest entry is 0, (C,).

    It is what Menon et al.'s logit adjusted softmax cross-entropy adds. The shift leaves the
    softmax as it is, and makes equal counts the plain cross-entropy, bit for bit. At least one n_c
    is above 0; ε, above 0, is the prior that an absent class is given.
    """
    prior = label_counts / label_counts.sum()
    adjustment = tau * torch.log(prior + epsilon)
    return adjustment - adjustment.max()


class LogitAdjusted(ClientLoss, capturable=True):
    """CE(z + τ·log(π + ε), y)."""

    def prepare(self, model: Classifier) -> None:
        settings = self.configuration.section(LogitAdjustmentSettings)
        self._adjustment = log_prior(self.label_counts, settings.tau, settings.epsilon)

    @staticmethod
    def prior_left(configuration: RunConfiguration) -> float:
        """Return 1 − τ: at τ = 1 the logits are likelihoods."""
        return max(0.0, 1.0 - configuration.section(LogitAdjustmentSettings).tau)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits + self._adjustment, labels)


local_loss = LocalLoss("logit-adjusted", LogitAdjusted)
