"""What a client measures of a model on its training images: BatchNorm inputs, class statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from foundation.data import stratified_subset
from foundation.models import State, load_state
from foundation.models.batch_norm import input_moments
from foundation.models.class_statistics import class_sums, noised
from foundation.settings.configuration import ConfigurationError
from questions.batch_norm import SAMPLE, MeasuredInputs
from questions.class_statistics import (
    CLASS_MOMENTS,
    MEANS,
    MOMENT,
    PARTS,
    PREDICTIONS,
    ClientStatistics,
)

from .site import Site

# Pixels of a batch. Statistics of a batch stand for those of all images, so it should be large.
_PIXELS = 2**18


def measured_inputs(site: Site, state: State) -> MeasuredInputs:
    """Measure what enters the BatchNorm layers of a model, on a bounded sample of the images.

    The sample keeps the shares of the classes and depends on the run's seed.
    """
    data = site.data()
    rows = stratified_subset(data.labels, SAMPLE, site.configuration.seed)
    images = torch.tensor(data.images[rows])
    height, width = data.image_size
    parts = -(-len(rows) * height * width // _PIXELS)
    batches = (
        site.description.normalization.apply(batch.to(site.device))
        for batch in images.tensor_split(min(parts, max(len(rows) // 2, 1)))
    )
    return MeasuredInputs(len(rows), input_moments(load_state(site.model(), state), batches))


def client_statistics(
    site: Site,
    state: State,
    parts: Sequence[str],
    label_counts: list[int] | None,
    secret: bytes,
) -> ClientStatistics:
    """Add up what a model says of the client's training images.

    Parameters
    ----------
    site : Site
        The client; its resident model is overwritten.
    state : State
        The model.
    parts : sequence of str
        Some of ``questions.class_statistics.PARTS``.
    label_counts : list of int, optional
        What may be told of the labels.
    secret : bytes
        What noise is drawn from, together with the model: the same question has the same answer,
        since the mean of many would have no noise.

    Raises
    ------
    ConfigurationError
        If more is asked for than the run's settings let be told.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts:
        raise ConfigurationError(f"statistics {unknown or 'none'}: choose of {', '.join(PARTS)}")
    by_class = MEANS in parts or CLASS_MOMENTS in parts
    if by_class and not site.configuration.exact_counts_told:
        raise ConfigurationError(
            "class means show how many images of each class there are, which label-counts="
            f"{site.configuration.label_counts} and generation.place="
            f"{site.configuration.generation.place} keep from the server"
        )
    batches = site.batches()
    sums = class_sums(
        load_state(site.model(), state),  # type: ignore[arg-type]
        batches.ordered(),
        torch.from_numpy(site.data().label_counts()),
        predictions=PREDICTIONS in parts,
        means=by_class,
        moment=MOMENT in parts,
        class_moments=CLASS_MOMENTS in parts,
        minimum=site.configuration.class_statistics_minimum,
    )
    noise = site.configuration.class_statistics_noise
    generator = torch.Generator().manual_seed(_seed(secret, state))
    return ClientStatistics(batches.samples, noised(sums, noise, generator), label_counts)


def _seed(secret: bytes, state: State) -> int:
    digest = hashlib.sha256(secret)
    for value in state.values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return int.from_bytes(digest.digest()[:8], "little") >> 1
