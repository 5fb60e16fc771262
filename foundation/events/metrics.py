"""The metrics file of a run: one JSON object a line, readable at any moment of the run."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from foundation import ExpectedError

Event = dict[str, Any]


class MetricsError(ExpectedError, ValueError):
    """A metrics file cannot be read or cut as asked; the message says what to do."""


def json_value(value: Any) -> Any:
    """Turn a value into what strict JSON can hold.

    Parameters
    ----------
    value : Any
        None, booleans, numbers, strings, mappings, lists and tuples, paths, and
        whatever has ``tolist`` (NumPy scalars and arrays, torch tensors).

    Returns
    -------
    Any
        The same with NaN and infinities as None, mapping keys as strings, sequences as lists.

    Raises
    ------
    TypeError
        If a value has no JSON counterpart.
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


def number(value: Any) -> float | None:
    """Return a finite number as float, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


class MetricsFile:
    """Append events to a file so that a killed process loses at most the line being written.

    Each event is one ``write`` system call of one line, so it is visible to readers at once and
    outlives the process. What a killed process left of a last line is removed on opening.
    Safe to use from several threads of one process.

    Parameters
    ----------
    path : Path | str
        The file, created with its folder if missing and continued otherwise.

    Attributes
    ----------
    listener : callable, optional
        Gets every event behind the file.

    Examples
    --------
    >>> with MetricsFile("outputs/run/metrics.jsonl") as metrics:      # doctest: +SKIP
    ...     metrics.append("round", round=1, phase="federated", accuracy=0.81)
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.listener: Callable[[Event], None] | None = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._descriptor = os.open(
            self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
        )
        complete = _complete_bytes(self.path.read_bytes())
        if complete != os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, complete)

    def append(self, event: str, **values: Any) -> Event:
        """Write one event.

        Parameters
        ----------
        event : str
            The kind of event ("round", "distillation", ...).
        **values : Any
            Its values; NaN and infinities are written as null.

        Returns
        -------
        dict
            The event as written.

        Raises
        ------
        OSError
            If the line could not be written whole (a full disk); the file then ends with the
            line before it.
        """
        record: Event = json_value({"event": event, **values})
        line = (json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n").encode()
        with self._lock:
            before = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, line)
            if written != len(line):
                os.ftruncate(self._descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if self.listener is not None:
            self.listener(record)
        return record

    def position(self) -> int:
        """Return the number of bytes written, all of them safe on disk.

        Store it in a checkpoint and give it to :meth:`truncate` on resuming.
        """
        with self._lock:
            os.fsync(self._descriptor)
            return os.fstat(self._descriptor).st_size

    def truncate(self, position: int) -> None:
        """Drop every event after ``position``, because a resumed run will write them again.

        Parameters
        ----------
        position : int
            Bytes to keep, as :meth:`position` returned them.

        Raises
        ------
        MetricsError
            If the file is shorter, or ``position`` is not the end of one of its lines.
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

    def __enter__(self) -> MetricsFile:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def read_events(path: Path | str) -> list[Event]:
    """Read the events of a metrics file, also while another process writes it.

    Parameters
    ----------
    path : Path | str
        The file. A last line that is not complete is left out.

    Returns
    -------
    list[dict]
        The events in the order of writing.

    Raises
    ------
    OSError
        If the file cannot be opened.
    MetricsError
        If a complete line is not a JSON object.
    """
    content = Path(path).read_bytes()
    events = []
    complete = content[: _complete_bytes(content)]
    for number, line in enumerate(complete.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError as error:
            raise MetricsError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(event, dict):
            raise MetricsError(f"{path}, line {number}: not a JSON object")
        events.append(event)
    return events


def _complete_bytes(content: bytes) -> int:
    """Return the number of bytes up to and with the last line end."""
    return content.rfind(b"\n") + 1
