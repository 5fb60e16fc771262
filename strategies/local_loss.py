"""The base of local losses that know which labels their client has.

A file of this folder that ends with ``local_loss = LocalLoss("name", Loss)`` offers one, as
``local-loss=name``. It takes the place of the cross-entropy in the one local loop, so it composes
with what a strategy adds to it: SCAFFOLD's correction, FedProx's and MOON's terms, a server
optimizer. A strategy that *is* such a loss names it in its ``Algorithm``.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from foundation.capture import Capturable
from foundation.models import Classifier
from foundation.settings import Section
from foundation.settings.configuration import RunConfiguration


class ClientLoss(Capturable):
    """A local loss for one client and one round.

    A subclass that says ``capturable=True`` is recorded with the step: :mod:`foundation.capture`.
    ``label_counts`` n_c, (C,), are the client's training images of every class, on the training
    device; they stay with the client. The model holds the global parameters; it is trained after
    this.
    """

    #: Whether it learns from the global model, so that every round has another objective.
    has_teacher = False

    def __init__(
        self, configuration: RunConfiguration, label_counts: Tensor, model: Classifier
    ) -> None:
        self.configuration = configuration
        self.label_counts = label_counts
        self.teacher: Teacher | None = None
        #: What the teacher says of the batch.
        self.taught: Tensor | None = None
        self.prepare(model)

    def prepare(self, model: Classifier) -> None:
        """Work out what holds for the whole round; a loss with a teacher makes it here."""

    @staticmethod
    def prior_left(configuration: RunConfiguration) -> float:
        """Return how many times a client's log prior is in the logits that this loss trains.

        Cross-entropy trains a posterior, which holds it once. A loss that takes it out during
        training says so here: taken out of an ensemble's logits once more, it would do harm.
        """
        return 1.0

    def observe(self, images: Tensor) -> None:
        """Look at a batch, (n, channels, height, width), in the precision of the training."""
        if self.teacher is not None:
            self.taught = self.teacher(images)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of logits z, (n, C) float32 or wider, and labels y, (n,) int64."""
        raise NotImplementedError


@dataclass(frozen=True)
class LocalLoss:
    """What a file declares, as ``local_loss = LocalLoss(...)``, for the key ``local-loss``.

    The loss is built anew for every client and round. ``settings`` is its own section of the run's
    keys, where it is not one of ours (``foundation/settings``).
    """

    name: str
    loss: type[ClientLoss]
    settings: type[Section] | None = None


class Teacher:
    """The global model of the round's start, frozen, as a teacher of the local one.

    It is in eval mode: in train mode, its BatchNorm statistics would follow every forward pass.
    """

    def __init__(self, model: Classifier) -> None:
        self._model = copy.deepcopy(model)
        self._model.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return its logits, (n, C), in float32 or wider."""
        logits = self._model.classify(self._model.embed(images))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
