"""What enters the BatchNorm layers of this model on your images? Pooled, their statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from foundation.data import as_seen, stratified_subset
from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent, template
from foundation.models import Classifier, State, cpu_state, load_state
from foundation.models.batch_norm import (
    InputMoments,
    input_moments,
    pooled_statistics,
    with_statistics,
)

from .question import Question, Request, Site

#: Most images that a client runs to measure; a pass over all could cost as much as an epoch.
SAMPLE = 512
# Pixels of a batch. Statistics of a batch stand for those of all images, so it should be large.
_PIXELS = 2**18
# Σx² may fall short of (Σx)²/n by what float64 rounds.
_TOLERANCE = 1e-9
# Mean of x² from which on a pooled variance would near the largest float32.
_LARGEST_SQUARE = 1e30


@dataclass(frozen=True)
class MeasuredInputs:
    """What so many of one client's images are to the BatchNorm layers of a model.

    Each image that was run stands for ``weight`` training images.
    """

    images: int
    moments: Mapping[str, InputMoments]
    weight: float = 1.0

    def content(self) -> Content:
        """Return them as an answer."""
        sums = {
            f"{name}.{kind}": getattr(found, kind)
            for name, found in self.moments.items()
            for kind in ("total", "squares")
        }
        counts = [found.count for found in self.moments.values()]
        return Content({"moments": sums}, {"images": self.images, "counts": counts})


def tell(site: Site, asked: Received) -> Content:
    """Measure on a bounded sample, which keeps the classes' shares and depends on the seed."""
    model = site.model()
    load_state(model, asked.state("arrays", model.state_dict()))
    return measured_inputs(site, model).content()


def measured_inputs(site: Site, model: Classifier) -> MeasuredInputs:
    """Measure a model's inputs on a sample of the training images."""
    data = site.data()
    rows = stratified_subset(data.labels, SAMPLE, site.configuration.seed)
    images = as_seen(data.subset(rows), site.description.normalization)
    height, width = data.image_size
    parts = -(-len(rows) * height * width // _PIXELS)
    batches = (
        batch.to(site.device) for batch in images.tensor_split(min(parts, max(len(rows) // 2, 1)))
    )
    return MeasuredInputs(len(rows), input_moments(model, batches))


question = Question("batch_norm", tell)


@dataclass(frozen=True)
class BatchNormRequest(Request[MeasuredInputs, State]):
    """Ask what enters the BatchNorm layers of a model.

    ``layers`` holds of every BatchNorm layer, in the model's order, its channels, and how many
    values of each an image has there. A client that says another number would change its weight.
    """

    state: State
    layers: Mapping[str, tuple[int, int]]

    asks = question

    @classmethod
    def of(cls, model: nn.Module, image_shape: tuple[int, int, int]) -> Self:
        """Ask about a model of images (C, H, W); it is not changed."""
        # Two images: a layer cannot normalise with a single value.
        images = torch.zeros(2, *image_shape, device=next(model.parameters()).device)
        found = input_moments(model, [images]).items()
        layers = {name: (len(moments.total), moments.count // 2) for name, moments in found}
        return cls(cpu_state(model), layers)

    def content(self) -> Content:
        return Content({"arrays": self.state})

    def checked(self, who: Participant, reply: Received) -> MeasuredInputs:
        images = reply.whole_number("images", 1, who.num_examples)
        if images != min(SAMPLE, who.num_examples):
            raise InvalidContent(f"it measured {images} images instead of its sample")
        expected = [images * values for _, values in self.layers.values()]
        counts = reply.whole_numbers("counts", len(self.layers), max(expected, default=0))
        shapes = {
            f"{name}.{kind}": template(torch.float64, width)
            for name, (width, _) in self.layers.items()
            for kind in ("total", "squares")
        }
        sums = reply.state("moments", shapes)
        moments = {}
        for name, count, right in zip(self.layers, counts, expected, strict=True):
            total, squares = sums[f"{name}.total"], sums[f"{name}.squares"]
            if count != right:
                raise InvalidContent(f"{name!r}: {count} values are not those of {images} images")
            if (squares * (1 + _TOLERANCE) < total.square() / count).any():
                raise InvalidContent(f"{name!r}: the sum of squares is too small for the sum")
            if (squares > _LARGEST_SQUARE * count).any():
                raise InvalidContent(f"{name!r}: no float32 can hold such a variance")
            moments[name] = InputMoments(count, total, squares)
        return MeasuredInputs(images, moments, who.num_examples / images)

    def pooled(self, answers: Mapping[int, MeasuredInputs]) -> State:
        """Return the model's state with the statistics that all clients' images give it.

        Every client counts by the training samples that it joined with; of none, the state stays.
        """
        parts = list(answers.values())
        statistics = pooled_statistics([p.moments for p in parts], [p.weight for p in parts])
        return with_statistics(self.state, statistics)
