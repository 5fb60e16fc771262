"""What clients answer about the predictions and features of their images, checked before use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from flwr.app import MetricRecord, RecordDict
from torch import Tensor

from foundation.messages.numbers import metrics_of, whole_numbers
from foundation.messages.records import InvalidContent, from_record, packed, template
from foundation.models import State
from foundation.models.class_statistics import ClassSums

PREDICTIONS, MEANS, MOMENT, CLASS_MOMENTS = "predictions", "means", "moment", "class-moments"
PARTS = (PREDICTIONS, MEANS, MOMENT, CLASS_MOMENTS)
# Relative; float32 probabilities add up to 1 within about 1e-6.
_TOLERANCE = 1e-4
# Sums of larger features over the clients could overflow in float32.
_LARGEST_FEATURE = 1e15


@dataclass(frozen=True)
class ClientStatistics:
    """One client's sums.

    Parameters
    ----------
    images : int
        Its training images.
    sums : ClassSums
        What was asked for.
    label_counts : list of int, optional
        What the run's settings let be known of its labels: counts, noised counts, or None.
    """

    images: int
    sums: ClassSums
    label_counts: list[int] | None = None

    def content(self) -> RecordDict:
        """Return the answer as a reply carries it."""
        sums, counts = self.sums, self.sums.feature_counts
        values = (sums.predictions, sums.feature_sums, sums.moment, sums.class_moments)
        tensors = zip(PARTS, values, strict=True)
        return RecordDict(
            {
                "statistics": packed({name: value for name, value in tensors if value is not None}),
                "class-statistics": MetricRecord(
                    {
                        "images": [self.images],
                        "label-counts": self.label_counts or [],
                        "feature-counts": [] if counts is None else counts.tolist(),
                    }
                ),
            }
        )


@dataclass(frozen=True)
class Expected:
    """What a reply must hold.

    Parameters
    ----------
    parts : sequence of str
        Some of :data:`PARTS`.
    classes, features : int
        C and d.
    minimum : int
        Fewest images of a class whose features are added up.
    noised : bool
        Whether noise on the features makes impossible sums possible.
    label_counts : {"none", "noised", "exact"}
        Whether label counts come along.
    """

    parts: Sequence[str]
    classes: int
    features: int
    minimum: int = 1
    noised: bool = False
    label_counts: str = "none"

    @property
    def shapes(self) -> State:
        """Templates of the arrays."""
        shapes = {
            PREDICTIONS: (self.classes,),
            MEANS: (self.classes, self.features),
            MOMENT: (self.features, self.features),
            CLASS_MOMENTS: (self.classes, self.features, self.features),
        }
        return {part: template(torch.float64, *shapes[part]) for part in self.parts}


def checked_statistics(
    content: RecordDict, expected: Expected, num_examples: int
) -> ClientStatistics:
    """Return a client's sums.

    Raises
    ------
    InvalidContent
        Saying what is wrong.
    """
    record = metrics_of(content, "class-statistics")
    (images,) = whole_numbers(record, "images", 1, num_examples)
    if images != num_examples:
        raise InvalidContent(f"it answers for {images} images, but joined with {num_examples}")
    arrays = content.array_records.get("statistics")
    if arrays is None:
        raise InvalidContent("the reply lacks its sums")
    state = from_record(arrays, expected.shapes)
    labels = _label_counts(record, expected, images)
    counts = _feature_counts(record, expected, images, labels)
    _check_predictions(state.get(PREDICTIONS), images)
    if not expected.noised:
        _check_features(state.get(MEANS), counts, state.get(MOMENT), state.get(CLASS_MOMENTS))
    for part, power in ((MEANS, 1), (MOMENT, 2), (CLASS_MOMENTS, 2)):
        if part in state and (state[part].abs() > images * _LARGEST_FEATURE**power).any():
            raise InvalidContent(f"the {part} add up features beyond {_LARGEST_FEATURE:g}")
    sums = ClassSums(
        state.get(PREDICTIONS),
        state.get(MEANS),
        counts,
        state.get(MOMENT),
        state.get(CLASS_MOMENTS),
    )
    return ClientStatistics(images, sums, labels)


def _label_counts(record: MetricRecord, expected: Expected, images: int) -> list[int] | None:
    if expected.label_counts == "none":
        return None
    exact = expected.label_counts == "exact"
    # Noise may make a count larger than it is.
    most = images if exact else 10**10
    labels = whole_numbers(record, "label-counts", expected.classes, most)
    if exact and sum(labels) != images:
        raise InvalidContent(f"the label counts sum to {sum(labels)} instead of {images}")
    return labels


def _feature_counts(
    record: MetricRecord, expected: Expected, images: int, labels: list[int] | None
) -> Tensor | None:
    if MEANS not in expected.parts:
        return None
    counts = whole_numbers(record, "feature-counts", expected.classes, images)
    if any(0 < count < expected.minimum for count in counts):
        raise InvalidContent(f"it adds up features of fewer than {expected.minimum} images")
    allowed = [images] * expected.classes if labels is None else labels
    exact = expected.label_counts == "exact"
    if sum(counts) > images or (
        exact and any(count not in (0, label) for count, label in zip(counts, allowed, strict=True))
    ):
        raise InvalidContent("it adds up features of other images than it has")
    return torch.tensor(counts)


def _check_predictions(predictions: Tensor | None, images: int) -> None:
    if predictions is None:
        return
    total = float(predictions.sum())
    if float(predictions.min()) < 0 or abs(total - images) > _TOLERANCE * images:
        raise InvalidContent(f"the predictions add up to {total:g} instead of {images}")


def _check_features(
    sums: Tensor | None,
    counts: Tensor | None,
    moment: Tensor | None,
    class_moments: Tensor | None,
) -> None:
    least = torch.zeros(())
    if sums is not None and counts is not None:
        if sums[counts == 0].any():
            raise InvalidContent("it adds up features of a class that it leaves out")
        least = sums.square() / counts.clamp_min(1).unsqueeze(1)
        if class_moments is not None and class_moments[counts == 0].any():
            raise InvalidContent("it adds up products of a class that it leaves out")
    if moment is not None:
        _check_moments(moment, least.sum(dim=0) if least.ndim else least)
    if class_moments is not None:
        _check_moments(class_moments, least)


def _check_moments(moments: Tensor, least: Tensor) -> None:
    """Hold second moments (…, d, d) against what their diagonals (…, d) must at least be."""
    diagonal = moments.diagonal(dim1=-2, dim2=-1)
    tolerance = 1e-6 * float(diagonal.abs().max())
    if not torch.allclose(moments, moments.mT, rtol=1e-6, atol=tolerance):
        raise InvalidContent("the second moment is not symmetric")
    if (diagonal * (1 + _TOLERANCE) < least).any():
        raise InvalidContent("the second moment is too small for the sums of features")
