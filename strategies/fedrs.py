"""FedRS (Li and Zhan 2021): a restricted softmax, in which absent classes count less.

loss = CE(α_c·z_c, y),    α_c = 1 for classes that the client has, α for the others
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.models import Classifier
from foundation.settings.algorithms import FedRSSettings

from .algorithm import Algorithm
from .local_loss import ClientLoss, LocalLoss


def restriction(label_counts: Tensor, alpha: float) -> Tensor:
    """Return α_c, (C,), of Li and Zhan's "Restricted Softmax"; α = 1 is the plain one."""
    scale = torch.ones_like(label_counts, dtype=torch.float32)
    return scale.masked_fill(label_counts == 0, alpha)


class RestrictedSoftmax(ClientLoss, capturable=True):
    """CE(α_c·z_c, y)."""

    def prepare(self, model: Classifier) -> None:
        alpha = self.configuration.section(FedRSSettings).alpha
        self._scale = restriction(self.label_counts, alpha)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits * self._scale, labels)


local_loss = LocalLoss("restricted-softmax", RestrictedSoftmax)
algorithm = Algorithm("fedrs", local_loss="restricted-softmax")
