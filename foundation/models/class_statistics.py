"""What a model says of labelled images, added up by class."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .classifier import Classifier


@dataclass(frozen=True)
class ClassSums:
    """Sums over labelled images, on the CPU; what was not asked for is None.

    With C classes and d features, in float64: ``predictions``, (C,), Σ softmax(z) over all images;
    ``feature_sums``, (C, d), Σ f of each class, and ``class_moments``, (C, d, d), Σ f·fᵀ of each,
    both 0 where the class has too few images; ``feature_counts``, (C,) int64, the images in each
    row of ``feature_sums``; ``moment``, (d, d), Σ f·fᵀ over the images that these count, or over
    all if feature sums were not asked for.

    ``feature_size`` is the root mean square of a feature over the images that were added up. It
    says how much noise is enough, and stays with who computed it.
    """

    predictions: Tensor | None = None
    feature_sums: Tensor | None = None
    feature_counts: Tensor | None = None
    moment: Tensor | None = None
    class_moments: Tensor | None = None
    feature_size: float = 0.0


@torch.inference_mode()
def class_sums(
    model: Classifier,
    batches: Iterable[tuple[Tensor, Tensor]],
    label_counts: Tensor,
    *,
    predictions: bool = False,
    means: bool = False,
    moment: bool = False,
    class_moments: bool = False,
    minimum: int = 1,
) -> ClassSums:
    """Run a model in evaluation mode over labelled images, and add up its answers in float64.

    Batches of (images, labels) are on the model's device; ``label_counts``, (C,) int64, say how
    many images of each class are in them. Class moments go with means. ``minimum`` is the fewest
    images of a class whose features are added up: the mean of few is close to each.
    """
    model.eval()
    classes, width = len(label_counts), int(model.head.in_features)
    counted = torch.where(label_counts >= minimum, label_counts, 0)
    device = next(model.parameters()).device
    included = (
        (counted > 0).to(device) if means else torch.ones(classes, dtype=torch.bool).to(device)
    )
    answer = torch.zeros(classes, dtype=torch.float64, device=device)
    sums = torch.zeros(classes, width, dtype=torch.float64, device=device)
    second = torch.zeros(width, width, dtype=torch.float64, device=device)
    rows = classes if class_moments else 0
    of_class = torch.zeros(rows, width, width, dtype=torch.float64, device=device)
    squares = torch.zeros((), dtype=torch.float64, device=device)
    for images, labels in batches:
        features = model.embed(images)
        if predictions:
            answer += model.classify(features).double().softmax(dim=1).sum(dim=0)
        if means or moment:
            kept = features.double() * included[labels].unsqueeze(1)
            squares += kept.square().sum()
            sums.index_add_(0, labels, kept)
            second.addmm_(kept.T, kept)
            for label in labels.unique().tolist() if class_moments else ():
                own = kept[labels == label]
                of_class[label].addmm_(own.T, own)
    count = int((counted if means else label_counts).sum())
    return ClassSums(
        predictions=answer.cpu() if predictions else None,
        feature_sums=sums.cpu() if means else None,
        feature_counts=counted if means else None,
        moment=second.cpu() if moment else None,
        class_moments=of_class.cpu() if class_moments else None,
        feature_size=(float(squares) / max(count * width, 1)) ** 0.5,
    )


def class_means(feature_sums: Tensor, counts: Tensor) -> Tensor:
    """Return μ_c = s_c / n_c, (C, d) float64; 0 for classes without images."""
    return feature_sums.double() / counts.double().clamp_min(1).unsqueeze(1)


def noised(sums: ClassSums, scale: float, generator: torch.Generator) -> ClassSums:
    """Add Gaussian noise to sums of features, so that no one image can be read from them.

    The noise on a class's sum has ``scale`` (0 or more) times the size of a feature
    (``feature_size``), that on second moments ``scale`` times its square. It blurs what an image
    adds; it is no differential privacy, since features are not bounded. Predictions stay as they
    are. The generator, on the CPU, must not be derivable from anything that the receiver knows.
    """
    if scale == 0:
        return sums
    feature_sums, moment, class_moments = sums.feature_sums, sums.moment, sums.class_moments
    held = torch.ones(0) if sums.feature_counts is None else sums.feature_counts > 0
    if feature_sums is not None:
        noise = torch.randn(feature_sums.shape, generator=generator, dtype=torch.float64)
        feature_sums = feature_sums + scale * sums.feature_size * noise * held.unsqueeze(1)
    if moment is not None:
        moment = moment + scale * sums.feature_size**2 * _symmetric_noise(moment, generator)
    if class_moments is not None:
        noise = _symmetric_noise(class_moments, generator) * held.view(-1, 1, 1)
        class_moments = class_moments + scale * sums.feature_size**2 * noise
    return replace(sums, feature_sums=feature_sums, moment=moment, class_moments=class_moments)


def _symmetric_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return noise.triu() + noise.triu(1).mT
