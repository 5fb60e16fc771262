"""Memory of a command and of everything it starts, also of what outlives or leaves it."""

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_INTERVAL = 0.2
_MARK = "FEDF2DG_MEASURED"


class PeakMemory:
    """Watches all processes that inherited a mark, from entering the block to leaving it.

    Children that detach themselves, as Flower's SuperLink and Ray's daemons do, keep the mark. What
    processes share is counted once (Linux's proportional set size).

    Attributes
    ----------
    environment : dict of str
        To be given to the command.
    bytes : int
        Largest sum seen so far; 0 on systems that do not tell.
    """

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self.environment = {_MARK: self._token}
        self.bytes = 0
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()

    def _watch(self) -> None:
        mark = f"{_MARK}={self._token}".encode()
        while not self._stop.wait(_INTERVAL):
            self.bytes = max(self.bytes, sum(map(proportional_size, _marked(mark))))


def _marked(mark: bytes) -> Iterator[Path]:
    own = str(os.getpid())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended, or somebody else's
            if process.name != own and mark in (process / "environ").read_bytes().split(b"\0"):
                yield process


def proportional_size(process: Path) -> int:
    """Return the bytes of a process (its folder in ``/proc``); what it shares counts in parts."""
    with suppress(OSError, IndexError, ValueError):
        text = (process / "smaps_rollup").read_text("ascii")
        return int(text.split("Pss:")[1].split()[0]) * 1024
    return 0
