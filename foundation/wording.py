"""Numbers in sentences."""

from __future__ import annotations

#: What stands for a number that there is none of.
NONE = "–"


def counted(number: int, one: str, several: str = "") -> str:
    """Write how many there are of something.

    Parameters
    ----------
    number : int
        How many.
    one : str
        The noun for one of them, e.g. ``"client"``.
    several : str (default: one and an s)
        The noun for several, e.g. ``"classes"``.

    Returns
    -------
    str
        ``"1 client"``, ``"1,000 clients"``, ``"no clients"``.
    """
    many = several or f"{one}s"
    if number == 0:
        return f"no {many}"
    return f"{number:,} {one if number == 1 else many}"


def duration(seconds: float | None) -> str:
    """Return a duration as one reads it: "0.4 s", "85 s", "12 min 5 s", "3 h 20 min"."""
    if seconds is None:
        return NONE
    if seconds < 99.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def rounds_left(done: int, rounds: int, seconds: float | None) -> str:
    """Return how far a run is, at the pace of its last round: "3 of 5 rounds, 2.0 s left"."""
    left = (
        "" if seconds is None or done >= rounds else f", {duration((rounds - done) * seconds)} left"
    )
    return f"{done} of {rounds} rounds{left}"
