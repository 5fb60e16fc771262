"""Processes for a run's own work, started when they are worth it."""

from __future__ import annotations

from foundation.models import gpu_shares
from foundation.processes import Workers, suitable


class WorkerPool:
    """Offers the engine's processes, which are free between messages, or starts its own.

    Parameters
    ----------
    wish : int
        The key ``processes``: how many; 0 leaves it to the machine and the work.
    device : str
        The key ``device``: with several GPUs, each gets a process.
    given : Workers, optional
        The engine's.
    """

    def __init__(self, wish: int, device: str, given: Workers | None = None) -> None:
        self._wish = wish
        self._gpus = gpu_shares(device)
        self._given = given
        self._own: Workers | None = None

    def workers(self, tasks: int, operations: float) -> Workers | None:
        """Return processes to share tasks over; None if they are best done in this one.

        Parameters
        ----------
        tasks : int
            Tasks that could be done at the same time.
        operations : float
            Floating-point operations of all of them.
        """
        count = suitable(self._wish, tasks, operations, len(self._gpus))
        if count == 1:
            return None
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = Workers(count, self._gpus)
        return self._own

    def close(self) -> None:
        """End the processes that were started."""
        if self._own is not None:
            self._own.close()
