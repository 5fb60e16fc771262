"""DENSE (Zhang et al. 2022): a generator against the uniform ensemble, and a growing pool.

For each epoch a new generator is trained on

    CE(z(x), y) + λ1·(distance to the BatchNorm statistics of the local models, their mean)
                − λ2·KL(z(x) || s(x)) where ensemble z and student s predict different classes

and its images join the pool, over which the student then learns KL(z || s) at T = 20.

Where this departs from the paper: the student is the federated model, in training mode; its step
size falls along a cosine, because the last model counts and not the best on a test set; a batch has
as many images of every class that a client holds, not classes drawn at random; sizes are for two
cores (``dense.epochs`` 20 for 200, batches of 64 for 256, a generator of half the width); the
images are those after the last step, not those of the least loss; the program's crops and flips of
the images that the ensemble sees are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foundation.models.ensemble import Ensemble
from foundation.settings.dense import DenseSettings
from generation.synthesis import Terms

from .growing_pool import Pool, distil_growing_pool
from .local_ensemble import refuse_on_clients, refuse_without_statistics
from .method import Method
from .settings import Settings
from .trained import Trained

NAME = "dense"


class _Dense:
    """Every member weighs the same, and the student sees the images as they are."""

    def __init__(self, settings: DenseSettings) -> None:
        self.name = NAME
        self.temperature = settings.temperature
        self.terms = Terms(
            bn_weight=settings.bn_weight,
            disagreement_weight=settings.disagreement_weight,
            only_where_wrong=True,
        )

    def weights(self, now: Tensor, pool: Pool, epoch: int) -> Tensor:
        """Return them as they are."""
        return now

    def lesson(
        self, ensemble: Ensemble, images: Tensor, answers: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the images, and the mean of the members' logits."""
        return images, ensemble.combined(answers)


def run(trained: Trained, settings: Settings) -> None:
    """Grow the pool and distil it."""
    own = settings.section(DenseSettings)
    distil_growing_pool(trained, _Dense(own), own, settings.seed)


def _refuse(model: nn.Module, settings: Settings) -> None:
    refuse_on_clients(settings, NAME)
    weight = settings.section(DenseSettings).bn_weight
    refuse_without_statistics(model, NAME, weight, "dense.bn-weight")


method = Method("dense", run, suits=_refuse)
