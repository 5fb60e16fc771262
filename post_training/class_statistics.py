"""What clients can tell of a model on their own training images, added up over clients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foundation.models import State


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
    class_moments : bool (default: False)
        Ask for the sum of f·fᵀ by class; goes with ``means``.
    """

    state: State
    predictions: bool = False
    means: bool = False
    moment: bool = False
    class_moments: bool = False


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
    class_moments : Tensor, optional
        (C, d, d) float64, Σ f·fᵀ of each class over the images that ``feature_counts`` counts.
    mean_products : Tensor, optional
        (d, d) float64, Σ s·sᵀ/n over clients and their classes, s being the sum of the features of
        n images; there with feature sums.
    means_added : int (default: 0)
        How many pairs of client and class are in ``mean_products``.
    """

    clients: tuple[int, ...]
    images: int
    label_counts: Tensor | None = None
    predictions: Tensor | None = None
    feature_sums: Tensor | None = None
    feature_counts: Tensor | None = None
    moment: Tensor | None = None
    class_moments: Tensor | None = None
    mean_products: Tensor | None = None
    means_added: int = 0
