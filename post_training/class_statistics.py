"""What clients can tell of a model on their own training images, added up over clients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models import State


@dataclass(frozen=True)
class StatisticsRequest:
    """Which statistics of which model are asked for.

    Parameters
    ----------
    state : State
        The model that the clients run over their training images, in evaluation mode.
    predictions : bool (default: False)
        Ask for the sum of its softmax outputs.
    means : bool (default: False)
        Ask for the sum of its features by class.
    moment : bool (default: False)
        Ask for the sum of f·fᵀ over all images, f being an image's features.
    """

    state: State
    predictions: bool = False
    means: bool = False
    moment: bool = False


@dataclass(frozen=True)
class ClassStatistics:
    """Sums over the images of the clients that answered; what was not asked for is None.

    Only sums over clients are held, so that secure aggregation can make them. C is the number of
    classes, d that of features.

    Parameters
    ----------
    clients : tuple of int
        Who answered.
    images : int
        n, the number of their images.
    label_counts : Tensor, optional
        (C,) float64, n_c: images of each class; None where clients do not tell.
    predictions : Tensor, optional
        (C,) float64, Σ softmax(z): sums to n.
    feature_sums : Tensor, optional
        (C, d) float64, Σ f of each class, over clients with enough images of it.
    feature_counts : Tensor, optional
        (C,) float64, the images in each row of ``feature_sums``.
    moment : Tensor, optional
        (d, d) float64, Σ f·fᵀ over the images that ``feature_counts`` counts; over all images if
        feature sums were not asked for.
    """

    clients: tuple[int, ...]
    images: int
    label_counts: Tensor | None = None
    predictions: Tensor | None = None
    feature_sums: Tensor | None = None
    feature_counts: Tensor | None = None
    moment: Tensor | None = None
