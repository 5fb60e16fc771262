"""Progress of long work as log lines: bars do not render through Flower's log stream."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import log

#: The file in a run's directory that holds the latest line of progress, while there is some.
PROGRESS = "progress.txt"

_SECONDS_BETWEEN_LINES = 5.0
_ESTIMATE_FROM = 0.05


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time spent inside to ``seconds[name]``, also where it ends in an error."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


class ProgressLog:
    """Logs done/total, rate and time left, at most once in five seconds, and at the end.

    ``what`` is the work, e.g. ``"inversion"``, and ``unit`` what is counted, e.g.
    ``"image-iterations"``. The ``file`` holds the latest line while the work goes on; it is no
    event, as how many there are depends on time. If ``brief``, nothing is said of work that ends
    before its first line.
    """

    def __init__(
        self, what: str, unit: str, file: Path | None = None, *, brief: bool = False
    ) -> None:
        self.what = what
        self.unit = unit
        self._file = file
        self._silent_end = brief
        self._started = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` units are done."""
        now = time.monotonic()
        finished = done >= total
        if not finished and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        if finished and self._silent_end:
            return
        self._last = now
        self._silent_end = False
        elapsed = max(now - self._started, 1e-9)
        rate = done / elapsed
        # Starting is slow: an estimate from the first few units would be far off.
        early = done < _ESTIMATE_FROM * total
        left = "" if finished or early else f", {(total - done) / rate:.0f} s left"
        # Of clients, for one, there may be one in a minute: then what is left says more.
        pace = f"{rate:.0f}/s, " if rate >= 1 else ""
        line = (
            f"{self.what}: {done}/{total} {self.unit} ({100 * done / max(total, 1):.0f} %), "
            f"{pace}{elapsed:.1f} s{left}"
        )
        log.info("%s", line)
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk, say, which does not end the work
                if finished:
                    self._file.unlink(missing_ok=True)
                else:
                    self._file.write_text(line + "\n", "utf-8")
