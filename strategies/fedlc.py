"""FedLC (Zhang et al. 2022): logits calibrated by how many images of a class the client has.

    loss = CE(z - τ·n_c^(-1/4), y)

An absent class has an infinite margin: it leaves the client's softmax, and is not pushed down.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.models import Classifier
from foundation.settings.algorithms import LogitAdjustmentSettings
from foundation.settings.configuration import RunConfiguration

from .algorithm import Algorithm
from .local_loss import ClientLoss, LocalLoss


def calibration(label_counts: Tensor, tau: float) -> Tensor:
    """Return -τ·n_c^(-1/4), shifted so that the largest entry is 0, (C,).

    It is the margin of the paper's fine-grained calibrated cross-entropy. The shift leaves the
    softmax as it is, and makes equal counts the plain cross-entropy, bit for bit. At least one n_c
    is above 0; a class without images gets -∞. τ = 0 gives zeros.
    """
    if tau == 0.0:
        return torch.zeros_like(label_counts, dtype=torch.float32)
    margin = -tau * label_counts.float().pow(-0.25)
    return margin - margin.max()


class Calibrated(ClientLoss, capturable=True):
    """CE(z - τ·n_c^(-1/4), y)."""

    def prepare(self, model: Classifier) -> None:
        tau = self.configuration.section(LogitAdjustmentSettings).tau
        self._calibration = calibration(self.label_counts, tau)

    @staticmethod
    def prior_left(configuration: RunConfiguration) -> float:
        """Return 0 unless τ = 0: absent classes, whose prior weighs most, are not pushed down."""
        return 1.0 if configuration.section(LogitAdjustmentSettings).tau == 0.0 else 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits + self._calibration, labels)


local_loss = LocalLoss("calibrated", Calibrated)
algorithm = Algorithm("fedlc", local_loss="calibrated")
