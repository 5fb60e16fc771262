"""The steps of a method: each is done once, timed, and made durable."""

from __future__ import annotations

from collections.abc import Callable

from .trained import Trained


def carry_out(trained: Trained, step: str, work: Callable[[], None], *, seconds: str) -> None:
    """Do the work of a step unless it was done before, and commit it.

    Parameters
    ----------
    trained : Trained
        Knows which steps are done.
    step : str
        Its name, unique within the method.
    work : callable
        What to do.
    seconds : str
        What the time is counted under.
    """
    if trained.done(step):
        return
    with trained.timed(seconds):
        work()
    trained.commit(step)
