"""FedVLS (Guo et al. 2025): distil the vacant classes, suppress logits of classes an image is not.

    loss = CE(z + log π, y)
         + λ·KL(softmax of the teacher's z over vacant classes ‖ softmax of z over vacant classes)
         + w·Σ_c π_c·log( (1/n) Σ_i exp( [y_i ≠ c]·(z_ic - log(C·π_c)) ) )

Vacant classes are those that the client has no image of; the teacher is the global model. The
terms and their constants (λ = 1, w = 0.005, 1e-9 inside the logarithms) are those of the authors'
published implementation.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.models import Classifier
from foundation.settings.algorithms import FedVLSSettings
from foundation.settings.configuration import RunConfiguration

from .algorithm import Algorithm
from .local_loss import ClientLoss, LocalLoss, Teacher
from .logit_adjustment import log_prior

# What the authors add to a prior of zero before its logarithm.
_FLOOR = 1e-9


def vacant_class_distillation(logits: Tensor, teacher_logits: Tensor, vacant: Tensor) -> Tensor:
    """Return KL(teacher ‖ student) of the softmax over the vacant classes, a mean over the batch.

    Logits are (n, C); ``vacant`` are the indices of these classes, int64.
    """
    return F.kl_div(
        F.log_softmax(logits[:, vacant], dim=1),
        F.log_softmax(teacher_logits[:, vacant], dim=1),
        reduction="batchmean",
        log_target=True,
    )


def logit_suppression(logits: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
    """Return Σ_c π_c·log( (1/n) Σ_i exp( [y_i ≠ c]·(z_ic - log(C·π_c)) ) ).

    z is (n, C), y (n,) int64, and π (C,); classes of prior 0 have no part in it.
    """
    count, classes = logits.shape
    shifted = logits - torch.log(prior + _FLOOR) - math.log(classes)
    spread = shifted.scatter(1, labels[:, None], 0.0)
    return (prior * (torch.logsumexp(spread, dim=0) - math.log(count))).sum()


class VacantClassDistillation(ClientLoss, capturable=True):
    """The sum of the three terms."""

    has_teacher = True

    def prepare(self, model: Classifier) -> None:
        self._prior = self.label_counts / self.label_counts.sum()
        self._adjustment = log_prior(self.label_counts, 1.0, _FLOOR)
        self._vacant = (self.label_counts == 0).nonzero().flatten()
        # The softmax over a single class is 1, whatever anybody says.
        if self.configuration.section(FedVLSSettings).distillation > 0 and len(self._vacant) > 1:
            self.teacher = Teacher(model)

    @staticmethod
    def prior_left(configuration: RunConfiguration) -> float:
        """Return 0: the cross-entropy in it is logit adjustment with τ = 1."""
        return 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        settings = self.configuration.section(FedVLSSettings)
        loss = F.cross_entropy(logits + self._adjustment, labels)
        if self.taught is not None:
            distilled = vacant_class_distillation(logits, self.taught, self._vacant)
            loss = loss + settings.distillation * distilled
        if settings.suppression > 0:
            suppressed = logit_suppression(logits, labels, self._prior)
            loss = loss + settings.suppression * suppressed
        return loss


local_loss = LocalLoss("vacant-class-distillation", VacantClassDistillation)
algorithm = Algorithm("fedvls", local_loss="vacant-class-distillation")
