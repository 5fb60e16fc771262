"""Numbers and names in sentences."""

import difflib
from collections.abc import Collection, Sequence

#: What stands for a number that there is none of.
NONE = "–"
#: What to think of where a site does better with a model, or a part of one, of its own.
OWN_IS_BETTER = "its images may look different there, or its labels be wrong: look at some"
_MOST_LISTED = 10


def counted(number: int, one: str, several: str = "") -> str:
    """Write how many there are of something: ``"1 client"``, ``"1,000 clients"``, ``"no clients"``.

    ``several`` is the noun for several where that is not ``one`` with an s.
    """
    many = several or f"{one}s"
    if number == 0:
        return f"no {many}"
    return f"{number:,} {one if number == 1 else many}"


def named(names: Sequence[str], place: int) -> str:
    """Return the name at a place; who has no name has its number."""
    return names[place] if place < len(names) else str(place)


def spans(numbers: Sequence[int]) -> str:
    """Write ascending whole numbers: "2 to 4, 7"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{s[0]} to {s[-1]}" if len(s) > 1 else f"{s[0]}" for s in found)


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in a text that separates them by commas, without blanks and empty ones."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def listed(names: Sequence[object], between: str = ", ") -> str:
    """Write names or numbers in a message, the first ones if there are many."""
    first = between.join(map(str, names[:_MOST_LISTED]))
    more = len(names) - _MOST_LISTED
    return f"{first} and {more:,} more" if more > 0 else first


def unknown(what: str, value: str, choices: Collection[str]) -> str:
    """Say that a value is none of the choices, what was perhaps meant, and what there is."""
    every = ", ".join(sorted(choices))
    return f"unknown {what} {value!r}.{meant(value, choices)} Choose one of: {every}"


def meant(value: str, choices: Collection[str]) -> str:
    """Return a hint at the choice that is nearest to a value; empty if none is near."""
    close = difflib.get_close_matches(value, choices, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


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
