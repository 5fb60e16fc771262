"""FedNTD (Lee et al. 2022): keep what the global model says of the classes that an image is not.

    loss = CE(z, y) + β·T²·KL(q̃_global ‖ q̃_local),    q̃ = softmax over the classes c ≠ y of z_c/T

The global model is the teacher. Only its opinion of the not-true classes is kept, so that learning
the true one is not held back.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.models import Classifier
from foundation.settings.algorithms import FedNTDSettings

from .algorithm import Algorithm
from .local_loss import ClientLoss, LocalLoss, Teacher


def not_true_distillation(
    logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """Return T²·KL(q̃_teacher ‖ q̃), a mean over the batch (Lee et al., section 3, "FedNTD").

    T², of T above 0, keeps the size of the gradient where T is not the paper's 1. Logits are (n,
    C); of labels y, (n,) int64, each row leaves out its own.
    """

    def not_true(z: Tensor) -> Tensor:
        # A probability of 0 for the true class; -∞ in both would make their difference NaN.
        # Selecting the other classes instead takes three times as long.
        lowest = torch.finfo(z.dtype).min
        return F.log_softmax((z / temperature).scatter(1, labels[:, None], lowest), dim=1)

    divergence = F.kl_div(
        not_true(logits),
        not_true(teacher_logits),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence


class NotTrueDistillation(ClientLoss, capturable=True):
    """CE + β·(not-true distillation from the global model)."""

    has_teacher = True

    def prepare(self, model: Classifier) -> None:
        if self.configuration.section(FedNTDSettings).beta > 0:
            self.teacher = Teacher(model)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, labels)
        if self.taught is None:
            return loss
        settings = self.configuration.section(FedNTDSettings)
        return loss + settings.beta * not_true_distillation(
            logits, self.taught, labels, settings.temperature
        )


local_loss = LocalLoss("not-true-distillation", NotTrueDistillation)
algorithm = Algorithm("fedntd", local_loss="not-true-distillation")
