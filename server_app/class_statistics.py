"""Ask the clients what a model says of their training images, and add up the answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from flwr.app import ConfigRecord, RecordDict
from torch import Tensor

from foundation.messages.gather import gather
from foundation.messages.reasons import grouped
from foundation.messages.records import packed
from foundation.models import size_in_bytes
from foundation.models.class_statistics import ClassSums
from post_training import ClassStatistics, StatisticsRequest
from questions.class_statistics import (
    PARTS,
    ClientStatistics,
    Expected,
    checked_statistics,
)

from .federation import Federation

log = logging.getLogger("flwr.fedf2dg")


def ask_for_statistics(
    federation: Federation, request: StatisticsRequest
) -> ClassStatistics | None:
    """Have every client that is connected answer, with its label counts in the same message.

    Returns
    -------
    ClassStatistics, optional
        Sums over the clients that answered; None if none did, or if the run's settings keep from
        the server what is asked for.
    """
    configuration, participants = federation.configuration, federation.participants
    if request.means and not configuration.exact_counts_told:
        log.warning(
            "class means are not asked for: label-counts=%s and generation.place=%s keep from the "
            "server how many images of each class a client has",
            configuration.label_counts,
            configuration.generation.place,
        )
        return None
    wishes = (request.predictions, request.means, request.moment, request.class_moments)
    expected = Expected(
        parts=[part for part, wish in zip(PARTS, wishes, strict=True) if wish],
        classes=federation.description.classes,
        features=int(federation.with_state(request.state).head.in_features),
        minimum=configuration.class_statistics_minimum,
        noised=configuration.class_statistics_noise > 0,
        label_counts="exact"
        if configuration.exact_counts_told
        else "noised"
        if configuration.label_counts_told
        else "none",
    )
    participants.refresh(federation.grid)
    addresses = participants.addresses(participants.clients)
    config = ConfigRecord({**federation.agreement(), "statistics": list(expected.parts)})
    question = RecordDict({"arrays": packed(request.state), "config": config})
    gathered = gather(
        federation.grid,
        addresses,
        "query.class_statistics",
        lambda client: question,
        lambda client, content: checked_statistics(
            content, expected, participants[client].num_examples
        ),
        configuration.round_timeout,
    )
    sent = sum(node is not None for node in addresses.values())
    federation.ledger.note_traffic("model", down=sent * size_in_bytes(request.state.values()))
    if gathered.failures:
        log.warning("class statistics: %s", grouped(gathered.failures))
    if not gathered.valid:
        return None
    parts = list(gathered.valid.values())
    federation.ledger.note_traffic("class statistics", up=sum(_size(part) for part in parts))
    return added(tuple(gathered.valid), parts)


def added(clients: tuple[int, ...], parts: Sequence[ClientStatistics]) -> ClassStatistics:
    """Return the sums over at least one client."""
    labels = [torch.tensor(p.label_counts) for p in parts if p.label_counts is not None]
    means = [_mean_products(part.sums) for part in parts]
    return ClassStatistics(
        clients=clients,
        images=sum(part.images for part in parts),
        label_counts=torch.stack(labels).sum(dim=0).double() if labels else None,
        predictions=_sum([part.sums.predictions for part in parts]),
        feature_sums=_sum([part.sums.feature_sums for part in parts]),
        feature_counts=_sum([part.sums.feature_counts for part in parts]),
        moment=_sum([part.sums.moment for part in parts]),
        class_moments=_sum([part.sums.class_moments for part in parts]),
        mean_products=_sum(means),
        means_added=sum(
            int((part.sums.feature_counts > 0).sum())
            for part in parts
            if part.sums.feature_counts is not None
        ),
    )


def _mean_products(sums: ClassSums) -> Tensor | None:
    """Return Σ s·sᵀ/n over a client's classes, (d, d)."""
    if sums.feature_sums is None or sums.feature_counts is None:
        return None
    means = sums.feature_sums / sums.feature_counts.clamp_min(1).unsqueeze(1)
    return sums.feature_sums.T @ means


def _sum(tensors: Sequence[Tensor | None]) -> Tensor | None:
    given = [tensor.double() for tensor in tensors if tensor is not None]
    return torch.stack(given).sum(dim=0) if given else None


def _size(part: ClientStatistics) -> int:
    sums = part.sums
    tensors = (
        sums.predictions,
        sums.feature_sums,
        sums.feature_counts,
        sums.moment,
        sums.class_moments,
    )
    return size_in_bytes([t for t in tensors if t is not None]) + 8 * len(part.label_counts or ())
