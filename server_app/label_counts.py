"""The clients' label counts, as far as the server may know them: each client is asked once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from foundation.messages.gather import gather
from foundation.messages.participants import Participants
from foundation.settings.configuration import RunConfiguration

from .ledger import Ledger
from .replies import checked_label_counts

log = logging.getLogger("flwr.fedf2dg")

_TIMEOUT_SECONDS = 600.0
_BYTES_PER_COUNT = 8

#: Label counts by noise and client, as a checkpoint holds them.
Told = dict[str, dict[str, list[int]]]


@dataclass(frozen=True)
class LabelCounts:
    """What clients said of their labels.

    Parameters
    ----------
    grid : Grid
        Flower's grid, or an in-process one.
    participants : Participants
        The clients.
    configuration : RunConfiguration
        ``label-counts``, ``label-counts-noise`` and ``generation.place``.
    classes : int
        Number of classes.
    agreement : ConfigRecord
        What every message says of the data.
    told : Told
        What was answered before. It is added to, and is kept in checkpoints: asked again, a client
        would draw new noise.
    ledger : Ledger
        Where the traffic is counted.
    """

    grid: Grid
    participants: Participants
    configuration: RunConfiguration
    classes: int
    agreement: ConfigRecord
    told: Told
    ledger: Ledger

    def of(self, clients: Sequence[int]) -> dict[int, list[int] | None] | None:
        """Return clients' label counts, (classes,) each.

        Clients that told none when they joined, and were not asked before, are asked now.

        Parameters
        ----------
        clients : sequence of int
            Indices of the clients.

        Returns
        -------
        dict, optional
            By client, in the order given; None for a client that gave no valid answer. None
            altogether if the configuration has the server know none.
        """
        configuration = self.configuration
        if configuration.label_counts == "uniform" or configuration.generation.place == "client":
            return None
        for client in clients:
            described = self.participants[client].label_counts
            if described and not self._is_told(client):
                self._note(client, list(described))
        unknown = [client for client in clients if not self._is_told(client)]
        if unknown:
            self._ask(unknown)
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

    def _ask(self, clients: Sequence[int]) -> None:
        self.participants.refresh(self.grid)
        question = RecordDict({"config": self.agreement})
        gathered = gather(
            self.grid,
            self.participants.addresses(clients),
            "query.label_counts",
            lambda client: question,
            lambda client, content: checked_label_counts(
                content,
                self.classes,
                # Noise changes the sum.
                self.participants[client].num_examples
                if self.configuration.label_counts == "uploaded"
                else None,
            ),
            _TIMEOUT_SECONDS,
        )
        for client, reason in gathered.failures.items():
            log.warning("client %d sent no label counts: %s", client, reason)
        for client, counts in gathered.valid.items():
            self._note(client, counts)

    def _note(self, client: int, counts: list[int]) -> None:
        self._by_client[str(client)] = counts
        self.ledger.note_traffic("label counts", up=_BYTES_PER_COUNT * len(counts))
