"""What clients answer about the inputs of BatchNorm layers, checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import MetricRecord, RecordDict

from foundation.messages.numbers import metrics_of, whole_numbers
from foundation.messages.records import InvalidContent, from_record, packed, template
from foundation.models.batch_norm import InputMoments

#: Most images that a client runs to measure; a pass over all could cost as much as an epoch.
SAMPLE = 512
# Σx² may fall short of (Σx)²/n by what float64 rounds.
_TOLERANCE = 1e-9
# Mean of x² from which on a pooled variance would near the largest float32.
_LARGEST_SQUARE = 1e30


@dataclass(frozen=True)
class MeasuredInputs:
    """What one client's images are to the BatchNorm layers of a model.

    Parameters
    ----------
    images : int
        How many of its training images were run.
    moments : Mapping of str to InputMoments
        By layer.
    """

    images: int
    moments: Mapping[str, InputMoments]

    def content(self) -> RecordDict:
        """Return the answer as a reply carries it."""
        names = list(self.moments)
        arrays = {
            f"{name}.{kind}": getattr(self.moments[name], kind)
            for name in names
            for kind in ("total", "squares")
        }
        counts = [self.moments[name].count for name in names]
        return RecordDict(
            {
                "moments": packed(arrays),
                "batch-norm": MetricRecord({"images": [self.images], "counts": counts}),
            }
        )


def checked_inputs(
    content: RecordDict, layers: Mapping[str, tuple[int, int]], num_examples: int
) -> MeasuredInputs:
    """Return a client's answer.

    Parameters
    ----------
    content : RecordDict
        The reply.
    layers : Mapping of str to (int, int)
        Of every BatchNorm layer, in the model's order: its channels, and how many values of each an
        image has there. A client that says another number would change its weight.
    num_examples : int
        Training samples that the client joined with.

    Raises
    ------
    InvalidContent
        Saying what is wrong.
    """
    record = metrics_of(content, "batch-norm")
    (images,) = whole_numbers(record, "images", 1, num_examples)
    if images != min(SAMPLE, num_examples):
        raise InvalidContent(f"it measured {images} images instead of its sample")
    expected = [images * values for _, values in layers.values()]
    counts = whole_numbers(record, "counts", len(layers), max(expected, default=0))
    arrays = content.array_records.get("moments")
    if arrays is None:
        raise InvalidContent("the reply lacks its moments")
    state = from_record(
        arrays,
        {
            f"{name}.{kind}": template(torch.float64, width)
            for name, (width, _) in layers.items()
            for kind in ("total", "squares")
        },
    )
    moments = {}
    for name, count, right in zip(layers, counts, expected, strict=True):
        total, squares = state[f"{name}.total"], state[f"{name}.squares"]
        if count != right:
            raise InvalidContent(f"{name!r}: {count} values are not those of {images} images")
        if (squares * (1 + _TOLERANCE) < total.square() / count).any():
            raise InvalidContent(f"{name!r}: the sum of squares is too small for the sum")
        if (squares > _LARGEST_SQUARE * count).any():
            raise InvalidContent(f"{name!r}: no float32 can hold such a variance")
        moments[name] = InputMoments(count, total, squares)
    return MeasuredInputs(images, moments)


def sample_weights(parts: Sequence[MeasuredInputs], num_examples: Sequence[int]) -> list[float]:
    """Return how many training images each image that was run stands for, client by client."""
    return [samples / part.images for part, samples in zip(parts, num_examples, strict=True)]
