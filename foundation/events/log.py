"""``record(event)``: what happened is said once, and told to everybody whom it concerns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from foundation.events.family import Event, Listener, RunOpened
from foundation.events.metrics import METRICS, MetricsFile
from foundation.events.reading import read_run, to_json

log = logging.getLogger("flwr.fedf2dg")

#: What whoever makes something happen is given.
Record = Callable[[Event], None]


def say(event: Event, rounds: int | None = None) -> None:
    """Put the sentence of an event into the log, and its warnings."""
    for warning in event.warnings:
        log.warning("%s", warning)
    if event.logged and (sentence := event.sentence(rounds)):
        log.info("%s", sentence)


class EventLog:
    """Writes a run's events to its file, enters them into its ledger, logs and hands them on.

    ``rounds`` are the federated ones that the run is to have.
    """

    def __init__(self, directory: Path, rounds: int, listeners: Sequence[Listener] = ()) -> None:
        self._directory = directory
        self._rounds = rounds
        self._listeners = tuple(listeners)
        self._file = MetricsFile(directory / METRICS)
        #: Sums up what happens; a resumed run's knows what happened before.
        self.enter: Record = lambda event: None

    def __call__(self, event: Event) -> None:
        """Record an event."""
        if event.event:
            self._file.append(event.event, **to_json(event))
        self.enter(event)
        say(event, self._rounds)
        self._tell(event)

    def open(self, opened: RunOpened, position: int) -> None:
        """Go on behind the first bytes of the file; who follows is told again what they tell."""
        self._file.truncate(position)
        self._tell(opened)
        for event in read_run(self._directory).events:
            self._tell(event)

    def position(self) -> int:
        """Return how many bytes of the file are written, and safe on disk."""
        return self._file.position()

    def close(self) -> None:
        """Tell those who follow that the run goes on no more."""
        for listener in self._listeners:
            listener.close()

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
