"""Processes for a run's own work, started when they are worth it."""

from __future__ import annotations

from processes import Workers, suitable


class WorkerPool:
    """Offers the engine's processes, which are free between messages, or starts its own.

    Parameters
    ----------
    wish : int
        The key ``processes``: how many; 0 leaves it to the machine and the work.
    on_cpu : bool
        Whether the work is done on the processor; otherwise there are none.
    given : Workers, optional
        The engine's.
    """

    def __init__(self, wish: int, on_cpu: bool, given: Workers | None = None) -> None:
        self._wish = wish
        self._on_cpu = on_cpu
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
        count = suitable(self._wish, tasks, operations)
        if not self._on_cpu or count == 1:
            return None
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = Workers(count)
        return self._own

    def close(self) -> None:
        """End the processes that were started."""
        if self._own is not None:
            self._own.close()
