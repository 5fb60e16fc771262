"""Progress of long work as log lines: bars do not render through Flower's log stream."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("flwr.fedf2dg")

_SECONDS_BETWEEN_LINES = 5.0
_ESTIMATE_FROM = 0.05


class ProgressLog:
    """Logs done/total, rate and time left, at most once in five seconds, and at the end.

    Parameters
    ----------
    what : str
        The work, e.g. ``"inversion"``.
    unit : str
        What is counted, e.g. ``"image-iterations"``.
    """

    def __init__(self, what: str, unit: str) -> None:
        self.what = what
        self.unit = unit
        self._started = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` units are done."""
        now = time.monotonic()
        finished = done >= total
        if not finished and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        elapsed = max(now - self._started, 1e-9)
        rate = done / elapsed
        # Starting is slow: an estimate from the first few units would be far off.
        early = done < _ESTIMATE_FROM * total
        left = "" if finished or early else f", {(total - done) / rate:.0f} s left"
        log.info(
            "%s: %d/%d %s (%.0f %%), %.0f/s, %.1f s%s",
            self.what,
            done,
            total,
            self.unit,
            100 * done / max(total, 1),
            rate,
            elapsed,
            left,
        )
