"""What clients answer about the inputs of BatchNorm layers, checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import MetricRecord, RecordDict

from models.batch_norm import InputMoments

from .numbers import metrics_of, whole_numbers
from .records import InvalidContent, from_record, packed, template

#: Most images that a client runs to measure; a pass over all could cost as much as an epoch.
SAMPLE = 512
# Σx² may fall short of (Σx)²/n by what float64 rounds.
_TOLERANCE = 1e-9
_MOST_POSITIONS = 10**9


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
    content: RecordDict, channels: Mapping[str, int], num_examples: int
) -> MeasuredInputs:
    """Return a client's answer.

    Parameters
    ----------
    content : RecordDict
        The reply.
    channels : Mapping of str to int
        Channels of every BatchNorm layer, in the model's order.
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
    counts = whole_numbers(record, "counts", len(channels), images * _MOST_POSITIONS)
    arrays = content.array_records.get("moments")
    if arrays is None:
        raise InvalidContent("the reply lacks its moments")
    state = from_record(
        arrays,
        {
            f"{name}.{kind}": template(torch.float64, width)
            for name, width in channels.items()
            for kind in ("total", "squares")
        },
    )
    moments = {}
    for name, count in zip(channels, counts, strict=True):
        total, squares = state[f"{name}.total"], state[f"{name}.squares"]
        if count == 0 or count % images:
            raise InvalidContent(f"{name!r}: {count} values are not those of {images} images")
        if (squares * (1 + _TOLERANCE) < total.square() / count).any():
            raise InvalidContent(f"{name!r}: the sum of squares is too small for the sum")
        moments[name] = InputMoments(count, total, squares)
    return MeasuredInputs(images, moments)


def sample_weights(parts: Sequence[MeasuredInputs], num_examples: Sequence[int]) -> list[float]:
    """Return how many training images each image that was run stands for, client by client."""
    return [samples / part.images for part, samples in zip(parts, num_examples, strict=True)]
