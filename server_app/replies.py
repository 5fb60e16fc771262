"""What clients answer, checked before it is used: nothing here trusts a name, size or value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from flwr.app import RecordDict
from torch import nn

from foundation.messages.records import InvalidContent, from_record, template
from foundation.models import State, size_in_bytes
from foundation.models.predictions import predicted_logits
from generation import PseudoData, implausible

_MOST_SAMPLES = 10**10
# Relative. TensorFloat-32 on a client's GPU gives about 1e-3.
_SOFT_LABEL_TOLERANCE = 0.02


def checked_label_counts(
    content: RecordDict, classes: int, num_examples: int | None = None
) -> list[int]:
    """Return the label counts of a reply.

    Parameters
    ----------
    content : RecordDict
        The reply.
    classes : int
        How many counts there must be.
    num_examples : int, optional
        What they must add up to: the samples the client joined with.

    Raises
    ------
    InvalidContent
        Saying what is wrong.
    """
    record = content.metric_records.get("metrics")
    counts = record.get("label-counts") if record is not None else None
    if not isinstance(counts, list) or len(counts) != classes:
        raise InvalidContent(f"the reply does not hold {classes} label counts")
    if not all(isinstance(count, int) and 0 <= count <= _MOST_SAMPLES for count in counts):
        raise InvalidContent("a label count is not a possible number of images")
    if sum(counts) == 0 or (num_examples is not None and sum(counts) != num_examples):
        raise InvalidContent(
            f"the label counts sum to {sum(counts)}"
            + ("" if num_examples is None else f", but the client joined with {num_examples}")
        )
    return [int(count) for count in counts]


@dataclass(frozen=True)
class PseudoReply:
    """The valid pseudo data of one client.

    Parameters
    ----------
    data : PseudoData
        Its images, labels and soft labels.
    objective : float
        The final objective of its inversion, as it says.
    """

    data: PseudoData
    objective: float

    @property
    def bytes_up(self) -> int:
        """Bytes of what the client sent."""
        return size_in_bytes((self.data.images, self.data.labels, self.data.logits))


def checked_pseudo_data(
    content: RecordDict,
    *,
    client: int,
    images: int,
    image_shape: tuple[int, int, int],
    classes: int,
) -> PseudoReply:
    """Return the pseudo data of a reply.

    Parameters
    ----------
    content : RecordDict
        The reply.
    client : int
        Who sent it; becomes the images' source.
    images : int
        How many were asked for.
    image_shape : tuple of int
        (C, H, W).
    classes : int
        Number of classes.

    Raises
    ------
    InvalidContent
        Saying what is wrong.
    """
    arrays = content.array_records.get("arrays")
    metrics = content.metric_records.get("metrics")
    if arrays is None or metrics is None:
        raise InvalidContent("the reply lacks its arrays or metrics")
    state: State = from_record(
        arrays,
        {
            "images": template(torch.float32, images, *image_shape),
            "labels": template(torch.int64, images),
            "logits": template(torch.float32, images, classes),
        },
    )
    labels = state["labels"]
    if images and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise InvalidContent(f"a label lies outside 0..{classes - 1}")
    if problem := implausible(state["images"], state["logits"]):
        raise InvalidContent(problem)
    objective = metrics.get("objective")
    if not isinstance(objective, int | float) or not math.isfinite(objective):
        raise InvalidContent(f"the metric 'objective' is {str(objective)[:40]}")
    sources = torch.full((images,), client, dtype=torch.int64)
    return PseudoReply(
        PseudoData(state["images"], labels, sources, state["logits"]), float(objective)
    )


def check_soft_labels(data: PseudoData, teacher: nn.Module) -> None:
    """Check that soft labels are what the client's model, which the server has, says of its images.

    A client can still send images that mislead; it cannot put words in its model's mouth.

    Parameters
    ----------
    data : PseudoData
        The client's, after :func:`checked_pseudo_data`.
    teacher : nn.Module
        Its local model, in evaluation mode.

    Raises
    ------
    InvalidContent
        If they differ by more than two machines' arithmetic can.
    """
    expected = predicted_logits(teacher, data.images)
    difference = float((data.logits - expected).norm() / expected.norm().clamp_min(1e-12))
    if not difference <= _SOFT_LABEL_TOLERANCE:
        raise InvalidContent(
            f"the soft labels differ by {difference:.0%} from what the client's model says"
        )
