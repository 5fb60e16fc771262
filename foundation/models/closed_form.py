"""Heads in closed form from one set of sums: nearest mean, ridge regression, discriminant.

All in float64. C is the number of classes that have images, d that of features, n of images. The
sums over clients are those over all images in one place, so that a head does not depend on how the
images lie with the clients.

How strongly a head is regularised follows from the sums, too: :func:`cross_validated` returns the
strength r that generalised cross-validation finds best for ridge regression, and the discriminant
takes the same r. The two stand for the same subspace at the same strength: penalised discriminant
analysis is ridge regression with other scales (Hastie, Buja and Tibshirani 1995).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from .class_statistics import class_means
from .classifier import LinearHead, logit_spread

# Of the mean eigenvalue: what strengths are tried.
_STRENGTHS = torch.logspace(-4, 2, 61, dtype=torch.float64)


@dataclass(frozen=True)
class FeatureSums:
    """What clients tell of their images' features, for the C classes that have images.

    ``moment`` (d, d) is A = Σ f·fᵀ, ``sums`` (C, d) are s_c = Σ f over the images of a class,
    ``counts`` (C,) their numbers n_c.
    """

    moment: Tensor
    sums: Tensor
    counts: Tensor

    @property
    def images(self) -> float:
        """N."""
        return float(self.counts.sum())

    @cached_property
    def means(self) -> Tensor:
        """(C, d), μ_c."""
        return class_means(self.sums, self.counts)

    @property
    def shares(self) -> Tensor:
        """(C,), n_c/n."""
        return self.counts.double() / self.images

    @property
    def mean(self) -> Tensor:
        """(d,), m, the mean of all features."""
        return self.sums.double().sum(0) / self.images

    @property
    def centred(self) -> Tensor:
        """(C, d), s_c − n_c·m."""
        return self.sums.double() - self.counts.double().unsqueeze(1) * self.mean

    @cached_property
    def total(self) -> "Scatter":
        """T = A − n·m·mᵀ."""
        mean = self.mean
        return Scatter.of(self.moment.double() - self.images * torch.outer(mean, mean))

    @cached_property
    def within(self) -> "Scatter":
        """S = A − Σ_c n_c·μ_c·μ_cᵀ."""
        means = self.means
        return Scatter.of(
            self.moment.double() - means.T @ (self.counts.double().unsqueeze(1) * means)
        )

    @cached_property
    def covariance(self) -> Tensor:
        """(d, d), S/n."""
        within = self.within
        return within.vectors @ (within.values.unsqueeze(1) * within.vectors.T) / self.images

    def spread(self, head: LinearHead) -> float:
        """Return the :func:`.logit_spread` of a head over the images."""
        return logit_spread(head, self.means, self.covariance, self.shares)


@dataclass(frozen=True)
class Scatter:
    """A sum of products of centred features, by its eigenvalues (d,) and eigenvectors (d, d)."""

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> Self:
        """Decompose a symmetric matrix; noise and rounding can leave eigenvalues below 0."""
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        return cls(values.clamp_min(0), vectors)

    def solved(self, strength: float, right: Tensor) -> Tensor:
        """Return (S + r·I)⁻¹·X for X (d, k)."""
        return self.vectors @ ((self.vectors.T @ right) / (self.values + strength).unsqueeze(1))


def cross_validated(sums: FeatureSums) -> float:
    """Return the strength r of ridge regression on the classes that :func:`best_strength` finds."""
    counts = sums.counts.double()
    energy = float((counts - counts.square() / sums.images).sum())
    return best_strength(sums.total, sums.centred.T, energy, sums.images, free=1)


def best_strength(
    scatter: Scatter, cross: Tensor, energy: float, images: float, free: int = 0
) -> float:
    """Return the strength r with the least generalised cross-validation (Golub et al. 1979).

    With targets Y and ridge regression's hat matrix H = H(r), it is
    (‖(I − H)·Y‖²/n) / (1 − tr H/n)², and stands for leaving out each image in turn. Both parts
    follow from the sums: no image is needed, nor any that is held out.

    Of the features F and targets Y of n ``images``, ``scatter`` is FᵀF, ``cross`` FᵀY (d, C), and
    ``energy`` ‖Y‖²; ``free`` are the coefficients of each target that are not shrunk, and that Y is
    already rid of. A ValueError says that all features are the same.
    """
    mean_value = float(scatter.values.mean())
    if not mean_value > 0:
        raise ValueError("all images have the same features")
    squares = (scatter.vectors.T @ cross).square().sum(1)
    scores: list[tuple[float, float]] = []
    for strength in (_STRENGTHS * mean_value).tolist():
        shifted = scatter.values + strength
        residual = energy - float(
            (squares * (2 / shifted - scatter.values / shifted.square())).sum()
        )
        freedom = free + float((scatter.values / shifted).sum())
        left = max(1 - freedom / images, 1e-9)
        scores.append((max(residual, 0.0) / images / left**2, -strength))
    return -min(scores)[1]


def shrunk_towards(sums: FeatureSums, start: LinearHead) -> tuple[LinearHead, float]:
    """Return the head nearest to another one that fits images, and the strength r it is held with.

    With the indicators y of the classes and the logits z of ``start``, both less their mean over
    the classes, it is z + D·f/a, where a is the least ‖y − a·z‖² over the images, and D the least
    ‖y − a·z − D·f‖² + r·‖D‖². The bias is the weight of one feature more, of the size that the
    others have. A large r leaves ``start``; 0 gives the least squares of the images alone. If the
    logits say nothing of the images (a ≤ 0), ``start`` itself is returned, and infinity.

    ``start`` is of the classes that ``sums`` has images of. A ValueError says that all features are
    the same.
    """
    images, classes = sums.images, len(sums.counts)
    moment, every = sums.moment.double(), sums.sums.double().sum(0, keepdim=True)
    one = float((moment.trace() / (images * len(moment))).sqrt())
    corner = moment.new_tensor([[one * one * images]])
    whole = torch.cat([torch.cat([moment, one * every.T], 1), torch.cat([one * every, corner], 1)])
    cross = torch.cat([sums.sums.double().T, one * sums.counts.double().unsqueeze(0)])
    cross = cross - cross.mean(1, keepdim=True)
    old = torch.cat([start.weight.T, start.bias.unsqueeze(0) / one])
    old = old - old.mean(1, keepdim=True)
    seen = whole @ old
    said = float((old * cross).sum())
    if said <= 0:
        return start, float("inf")
    scale = said / float((old * seen).sum())
    left = cross - scale * seen
    energy = images * (1 - 1 / classes) - scale * said
    scatter = Scatter.of(whole)
    strength = best_strength(scatter, left, energy, images)
    new = old + scatter.solved(strength, left) / scale
    return LinearHead(new[:-1].T, one * new[-1]), strength


def ridge_head(sums: FeatureSums, strength: float, balanced: bool = False) -> LinearHead:
    """Return the least ‖W·f + b − y‖² + r·‖W‖² over the images' indicators y; b is not shrunk.

    Balanced, the indicator of class c is divided by C·n_c/n (Fed3R, Fanì et al. 2024).
    """
    weight = sums.total.solved(strength, sums.centred.T).T
    bias = sums.shares - weight @ sums.mean
    each = 1 / (len(bias) * sums.shares) if balanced else torch.ones_like(bias)
    return LinearHead(each.unsqueeze(1) * weight, each * bias)


def regularised_discriminant(
    sums: FeatureSums, strength: float, balanced: bool = False
) -> LinearHead:
    """Return w_c = n·(S + r·I)⁻¹μ_c, b_c = log π_c − ½·w_c·μ_c; balanced, all π are the same.

    It is the discriminant of (1 − a)·Σ + a·(tr Σ/d)·I with a = r/(r + tr S/d), but for a scale
    beside the prior: Σ ~ S, and n stands for what both are divided by.
    """
    weight = sums.images * sums.within.solved(strength, sums.means.T).T
    prior = torch.zeros(len(weight)).double() if balanced else sums.shares.log()
    return LinearHead(weight, prior - 0.5 * (weight * sums.means).sum(1))


def nearest_mean_head(
    sums: FeatureSums, strength: float = 0.0, balanced: bool = False
) -> LinearHead:
    """Return w_c = μ_c, b_c = −½·‖μ_c‖² (FedNCM, Legate et al. 2023), at any strength."""
    means = sums.means
    return LinearHead(means, -0.5 * means.square().sum(1))


#: What solves for a head of a form, from sums, the strength r, and whether it is balanced.
SOLVERS: dict[str, Callable[[FeatureSums, float, bool], LinearHead]] = {
    "discriminant": regularised_discriminant,
    "ridge": ridge_head,
    "nearest-mean": nearest_mean_head,
}
# Powers of 2 that are tried as temperatures, however little spread the logits are; and at the most.
_LEAST, _USUAL, _MOST = -2, 9, 40
# Taken is the largest temperature whose likelihood is within the 95 % interval (Wilks 1938): few
# images that are all classified correctly would make a head ever surer.
_WITHIN = 1.92


def temperatures(spread: float) -> tuple[float, ...]:
    """Return the temperatures to try on held-out images, of a head whose logits are so spread.

    Fewer images than features, hardly regularised, make a head of any size: the largest
    temperature leaves its logits next to nothing.
    """
    reach = math.ceil(math.log2(spread)) if 1 < spread < math.inf else 0
    return tuple(2.0**power for power in range(_LEAST, min(max(_USUAL, reach), _MOST) + 1))


def likely_temperature(losses: Mapping[float, float]) -> float:
    """Return which temperature is taken, by the sum of losses at each."""
    most = min(losses.values()) + _WITHIN
    return max(t for t, loss in losses.items() if loss <= most)
