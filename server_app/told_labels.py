"""The clients' label counts, as far as the server may know them: each client is asked once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.events.family import BytesSent
from foundation.events.log import Record
from foundation.messages.content import Content, payload_bytes
from foundation.messages.participants import Participants
from foundation.settings.configuration import RunConfiguration
from questions.ask import Answers
from questions.label_counts import LabelCountsRequest

log = logging.getLogger("flwr.fedf2dg")

#: Label counts by noise and client, as a checkpoint holds them.
Told = dict[str, dict[str, list[int]]]


@dataclass(frozen=True)
class ToldLabels:
    """What clients said of their labels.

    Parameters
    ----------
    ask : callable
        Asks the clients.
    participants : Participants
        The clients.
    configuration : RunConfiguration
        ``label-counts``, ``label-counts-noise`` and ``generation.place``.
    classes : int
        Number of classes.
    told : Told
        What was answered before. It is added to, and is kept in checkpoints: asked again, a client
        would draw new noise.
    record : Record
        Told of the traffic of counts that came when a client joined.
    """

    ask: Callable[[LabelCountsRequest], Answers[Any]]
    participants: Participants
    configuration: RunConfiguration
    classes: int
    told: Told
    record: Record

    def of(self, clients: Sequence[int]) -> dict[int, list[int] | None] | None:
        """Return clients' label counts, (classes,) each.

        Clients that told none when they joined, and were not asked before, are asked now.

        Returns
        -------
        dict, optional
            By client, in the order given; None for a client that gave no valid answer. None
            altogether if the configuration has the server know none.
        """
        if not self.configuration.label_counts_told:
            return None
        for client in clients:
            described = list(self.participants[client].label_counts)
            if described and not self._is_told(client):
                self._by_client[str(client)] = described
                records = Content(numbers={"label-counts": described}).records()
                self.record(BytesSent("label counts", up=payload_bytes(records)))
        unknown = [client for client in clients if not self._is_told(client)]
        if unknown:
            noised = self.configuration.label_counts == "noised"
            answers = self.ask(LabelCountsRequest(unknown, self.classes, noised))
            for client, reason in answers.failures.items():
                log.warning("client %d sent no label counts: %s", client, reason)
            self._by_client.update({str(c): counts for c, counts in answers.valid.items()})
        return {client: self._by_client.get(str(client)) for client in clients}

    @property
    def _by_client(self) -> dict[str, list[int]]:
        configuration = self.configuration
        noise = configuration.label_counts_noise if configuration.label_counts == "noised" else 0
        return self.told.setdefault(f"noise {noise:g}", {})

    def _is_told(self, client: int) -> bool:
        """Tell whether a client's label counts are known, and still those of its images."""
        counts = self._by_client.get(str(client))
        if counts is None or self.configuration.label_counts == "noised":
            return counts is not None
        return sum(counts) == self.participants[client].num_examples
