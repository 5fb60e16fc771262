"""Have the clients measure the BatchNorm statistics of a model, and pool them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid
from torch import nn

from foundation.messages.gather import gather
from foundation.messages.participants import Participants
from foundation.messages.records import packed
from foundation.models import State, cpu_state, size_in_bytes
from foundation.models.batch_norm import input_moments, pooled_statistics, with_statistics
from questions.batch_norm import checked_inputs, sample_weights


@dataclass(frozen=True)
class MeasuredModel:
    """A model with the statistics that its clients' images give it.

    Parameters
    ----------
    state : State
        As it was, but for the running statistics; unchanged if nobody measured.
    clients : tuple of int
        Who measured.
    failures : dict[int, str]
        Why the others did not.
    bytes_down, bytes_up : int
        What went to the clients, and what they sent.
    """

    state: State
    clients: tuple[int, ...]
    failures: dict[int, str]
    bytes_down: int = 0
    bytes_up: int = 0


def measured_on_clients(
    grid: Grid,
    participants: Participants,
    model: nn.Module,
    image_shape: tuple[int, int, int],
    agreement: Mapping[str, Any],
    timeout: float,
    progress: Callable[[int, int], None] | None = None,
) -> MeasuredModel:
    """Return the state of a model with pooled BatchNorm statistics; one message for each client.

    Every client counts by the training samples that it joined with.

    Parameters
    ----------
    grid : Grid
        Flower's grid, or an in-process one.
    participants : Participants
        The clients; those that are connected are asked.
    model : nn.Module
        The model; it is not changed.
    image_shape : tuple of int
        Channels, height and width of the images.
    agreement : Mapping
        What every message says of the data.
    timeout : float
        Seconds to wait for the answers.
    progress : callable, optional
        Called with how many have answered, and how many were asked.
    """
    state = cpu_state(model)
    layers = _layers(model, image_shape)
    if not layers:
        return MeasuredModel(state, (), {})
    participants.refresh(grid)
    addresses = participants.addresses(participants.clients)
    question = RecordDict({"arrays": packed(state), "config": ConfigRecord(dict(agreement))})
    gathered = gather(
        grid,
        addresses,
        "query.batch_norm",
        lambda client: question,
        lambda client, content: checked_inputs(content, layers, participants[client].num_examples),
        timeout,
        progress,
    )
    parts = list(gathered.valid.values())
    if parts:
        samples = [participants[client].num_examples for client in gathered.valid]
        statistics = pooled_statistics(
            [part.moments for part in parts], sample_weights(parts, samples)
        )
        state = with_statistics(state, statistics)
    sent = sum(node is not None for node in addresses.values())
    return MeasuredModel(
        state,
        tuple(gathered.valid),
        gathered.failures,
        bytes_down=sent * size_in_bytes(state.values()),
        bytes_up=len(parts) * 8 * (1 + sum(1 + 2 * width for width, _ in layers.values())),
    )


def _layers(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, tuple[int, int]]:
    """Return the channels of each BatchNorm layer, and the values that an image has in each."""
    # Two images: a layer cannot normalise with a single value.
    images = torch.zeros(2, *image_shape, device=next(model.parameters()).device)
    found = input_moments(model, [images])
    return {name: (len(moments.total), moments.count // 2) for name, moments in found.items()}
