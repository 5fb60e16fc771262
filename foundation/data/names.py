"""Names of classes, sites and files: one spelling for each, their order, and how they are shown."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from foundation.errors import DataError


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), in which names are compared.

    macOS hands over "Ä" as an A and two dots, all others as one letter; under a locale of ASCII,
    Python hands over each byte by itself. A name that is not UTF-8, which no message could carry,
    is a DataError.
    """
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise DataError(f"the name '{shown(name)}' is not UTF-8: rename it") from error
    return unicodedata.normalize("NFC", text)


def shown(name: str | Path) -> str:
    """Write a path or a name in a message, whatever bytes it consists of."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names each once and sorted; by value if all are whole numbers: "2" before "10"."""
    once = sorted(set(names))
    return tuple(sorted(once, key=int)) if are_numbers(once) else tuple(once)


def are_numbers(names: Sequence[str]) -> bool:
    """Tell whether all names are whole numbers as a program writes them, without leading zeros."""
    return all(name.isascii() and name.isdecimal() and str(int(name)) == name for name in names)


def look_alike(name: str) -> str:
    """Return what names that a reader takes for one have in common.

    Case, blanks, the forms of a letter and zeros before a number do not count: "Cat", "cat " and
    "ｃａｔ" are one, and so are "1" and "01".
    """
    alike = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return str(int(alike)) if alike.isdecimal() else alike


def refuse_look_alikes(names: Iterable[tuple[str, str]]) -> None:
    """Refuse names, each with its place, that differ only in case, blanks or forms of a letter."""
    first: dict[str, tuple[str, str]] = {}
    for name, where in names:
        other, place = first.setdefault(look_alike(name), (name, where))
        if other != name:
            raise DataError(
                f"{where} has the class '{name}', {place} '{other}': give a class one name, or if "
                "these are two, name all classes with class-names=NAME,NAME"
            )
