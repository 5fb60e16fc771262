"""Images of a generator that is trained, batch by batch, against an ensemble of local models.

DENSE (Zhang et al. 2022) and Co-Boosting (Dai et al. 2024).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundation.models.classifier import Ensemble

from .engine import InversionError, PixelRange, resident_copy
from .generator import NOISE, Generator, disagreement, hard_sample_weights
from .statistics_layer import freeze_statistics

# Of both papers' programs.
_BETAS = (0.5, 0.999)


@dataclass(frozen=True)
class Terms:
    """Weights of what a generator is trained for, beside the cross-entropy of the wanted class.

    `bn_weight` is that of the distance to the statistics in the members' BatchNorm layers, mean
    over members; `disagreement_weight` that of the disagreement of ensemble and student, which is
    sought; `gamma` is γ of :func:`.hard_sample_weights`.
    """

    bn_weight: float = 0.0
    disagreement_weight: float = 0.0
    disagreement_temperature: float = 1.0
    only_where_wrong: bool = False
    gamma: float = 0.0


class Synthesis:
    """Makes batches of images against one ensemble, the teacher: copied, never changed.

    For each, Adam takes so many `steps` on a :class:`.Generator` of this `width` for images (C, H,
    W).
    """

    def __init__(
        self,
        ensemble: Ensemble,
        terms: Terms,
        *,
        shape: tuple[int, int, int],
        pixel_range: PixelRange | None,
        steps: int,
        learning_rate: float,
        width: int,
        device: torch.device,
    ) -> None:
        self._terms, self._shape, self._pixel_range = terms, shape, pixel_range
        self._steps, self._learning_rate, self._width = steps, learning_rate, width
        self._device = device
        self._deviations: list[Tensor] = []
        self._ensemble = resident_copy(ensemble, device)
        freeze_statistics(self._ensemble, self._deviations if terms.bn_weight > 0 else None)

    def make(
        self, student: nn.Module, labels: Tensor, *, seed: int, weights: Tensor | None = None
    ) -> tuple[Tensor, float]:
        """Make one image for each label, (n,) int64; n is at least 2: the generator has BatchNorm.

        Returned are the images, (n, C, H, W) float32 on the CPU, and the objective before the last
        step. The student, the model to disagree with, is copied. The generator's weights and noise
        depend on `seed` alone; `weights`, (K,), are those of the ensemble's members (None: as they
        were). An :class:`InversionError` says that the objective stopped being a finite number.
        """
        if weights is not None:
            self._ensemble.get_buffer("weights").copy_(weights)
        generator = Generator(self._shape, self._width, self._pixel_range, seed=seed)
        generator = generator.to(self._device).to(memory_format=torch.channels_last)
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn((len(labels), NOISE), generator=draw).to(self._device).requires_grad_()
        optimizer = torch.optim.Adam(
            [*generator.parameters(), noise], self._learning_rate, betas=_BETAS
        )
        targets, rival = labels.to(self._device), resident_copy(student, self._device)
        loss = noise.new_zeros(())
        for _ in range(self._steps):
            loss = self._objective(generator(noise), rival, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if not math.isfinite(value := loss.item()):
            raise InversionError(
                f"the generator's objective became {value}: lower generator-learning-rate, and "
                "check that the local models' weights and BatchNorm statistics are finite"
            )
        with torch.no_grad():
            images = generator(noise)
        return images.cpu().contiguous(), value

    def _objective(self, images: Tensor, rival: nn.Module, labels: Tensor) -> Tensor:
        terms = self._terms
        images = images.contiguous(memory_format=torch.channels_last)
        logits = self._ensemble(images)
        losses = F.cross_entropy(logits, labels, reduction="none")
        loss = (hard_sample_weights(logits, labels, terms.gamma) * losses).mean()
        if self._deviations:
            members = len(self._ensemble.members)  # type: ignore[arg-type]
            loss = loss + terms.bn_weight / members * torch.stack(self._deviations).sum()
            self._deviations.clear()
        if terms.disagreement_weight > 0:
            loss = loss - terms.disagreement_weight * disagreement(
                rival(images),
                logits,
                terms.disagreement_temperature,
                only_where_wrong=terms.only_where_wrong,
            )
        return loss
