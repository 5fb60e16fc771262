"""``record(event)``: what happened is said once, and told to everybody whom it concerns."""

import errno
import json
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from foundation import ExpectedError
from foundation.errors import log
from foundation.events.family import Event, Listener, RunOpened
from foundation.events.reading import METRICS, complete_bytes, read_run, to_json

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


class MetricsError(ExpectedError, ValueError):
    """A metrics file cannot be cut as asked; the message says what to do."""


def json_value(value: Any) -> Any:
    """Turn a value into what strict JSON can hold; a TypeError where there is no such thing.

    NaN and infinities become None, mapping keys strings, sequences lists; whatever has ``tolist``
    (NumPy scalars and arrays, torch tensors) becomes numbers.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: convert it first")


class MetricsFile(AbstractContextManager["MetricsFile"]):
    """Append events to a file so that a killed process loses at most the line being written.

    The file is created with its folder if it is missing, and continued otherwise, without what a
    killed process left of a last line. Each event is one ``write`` system call of one line, so it
    is visible to readers at once and outlives the process. Safe to use from several threads.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._descriptor = os.open(
            self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
        )
        complete = complete_bytes(self.path.read_bytes())
        if complete != os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, complete)

    def append(self, event: str, **values: Any) -> None:
        """Write one event; NaN and infinities are written as null.

        An OSError where the line could not be written whole; the file then ends with the one
        before.
        """
        record = json_value({"event": event, **values})
        line = (json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n").encode()
        with self._lock:
            before = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, line)
            if written != len(line):
                os.ftruncate(self._descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def position(self) -> int:
        """Return the number of bytes written, all of them safe on disk, for :meth:`truncate`."""
        with self._lock:
            os.fsync(self._descriptor)
            return os.fstat(self._descriptor).st_size

    def truncate(self, position: int) -> None:
        """Drop every event after ``position`` bytes: a resumed run will write them again.

        A MetricsError if the file is shorter, or ``position`` is not the end of one of its lines.
        """
        with self._lock:
            content = self.path.read_bytes()
            if not 0 <= position <= len(content):
                raise MetricsError(
                    f"{self.path} holds {len(content)} bytes, fewer than the {position} the "
                    "checkpoint counts on: the file was changed or belongs to another run"
                )
            if position and content[position - 1 : position] != b"\n":
                raise MetricsError(
                    f"{self.path}: byte {position} is not the end of an event: the file was "
                    "changed or belongs to another run"
                )
            os.ftruncate(self._descriptor, position)

    def close(self) -> None:
        """Put everything on disk and close the file; closing twice does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                os.fsync(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1

    def __exit__(self, *_: object) -> None:
        self.close()
