"""Numbers in sentences."""

from __future__ import annotations


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
