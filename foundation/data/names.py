"""Names of classes: one spelling for each, and their order."""

import unicodedata
from collections.abc import Iterable, Sequence

_MOST_SHOWN = 10


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), in which names are compared.

    macOS hands over "Ä" as an A and two dots, all others as one letter; both look the same.
    """
    return unicodedata.normalize("NFC", name)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names each once and sorted; by value if all are whole numbers: "2" before "10"."""
    once = sorted(set(names))
    return tuple(sorted(once, key=int)) if are_numbers(once) else tuple(once)


def are_numbers(names: Sequence[str]) -> bool:
    """Tell whether all names are whole numbers as a program writes them, without leading zeros."""
    return all(name.isascii() and name.isdecimal() and str(int(name)) == name for name in names)


def listed(names: Sequence[str]) -> str:
    """Write names in a message, the first ones if there are many."""
    shown = ", ".join(names[:_MOST_SHOWN])
    more = len(names) - _MOST_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown
