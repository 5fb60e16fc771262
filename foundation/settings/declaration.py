"""How a setting is declared, and how a value is held against its declaration.

The sections of a run's configuration are frozen dataclasses whose fields say what they mean. They
are at the same time the settings of the libraries ``generation`` and ``distillation``: what the
configuration accepts is the very object that a stage is given, so the two cannot disagree. This
room lies below both, because the libraries know nothing of a run, and the configuration does not
know the libraries.
"""

from __future__ import annotations

import difflib
import math
import operator
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any

from foundation import UsageError

Value = str | int | float | bool


class ConfigurationError(UsageError, ValueError):
    """A setting that cannot work; the message names the key, the value and the choices."""


@dataclass(frozen=True)
class KeyInfo:
    """What a user needs to know about one setting.

    Parameters
    ----------
    meaning : str
        One sentence.
    kind : type
        Of the value: ``str``, ``int``, ``float``, ``bool`` or, in libraries only, ``tuple``.
    unit : str (default: "")
        Unit of the value, where it has one.
    symbol : str (default: "")
        What the paper calls it.
    minimum, maximum : float, optional
        Range of a number, ends included unless ``above`` or ``below``.
    above, below : float, optional
        Exclusive ends.
    choices : tuple[str, ...] (default: ())
        Permitted values; empty if the choices are open (data set, model, strategy: they are
        registries, and are passed to ``RunConfiguration.parse``).
    numbered : str (default: "")
        A choice that a number may follow, behind a colon: ``cuda`` permits ``cuda:1``.
    original : str (default: "")
        The flag of the original research script.
    binds : str (default: "train")
        First stage whose result depends on the key. A run that is resumed behind that stage must
        keep the value; ``"run"`` keys may always change.
    is_path : bool (default: False)
        Whether the value is a path, which is made absolute where a configuration is parsed: other
        processes of the run have working directories of their own.
    words : tuple of str (default: ())
        Values of a path key that are no path.
    in_library_only : bool (default: False)
        Whether only the libraries' users can set it; it is no key of the run's configuration.
    """

    meaning: str
    kind: type
    unit: str = ""
    symbol: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    numbered: str = ""
    original: str = ""
    binds: str = "train"
    is_path: bool = False
    words: tuple[str, ...] = ()
    in_library_only: bool = False

    @property
    def range(self) -> str:
        """The permitted values in words; empty if any will do."""
        if self.choices:
            return ", ".join([*self.choices, *([f"{self.numbered}:N"] if self.numbered else [])])
        ends = (
            ("above", self.above),
            ("at least", self.minimum),
            ("below", self.below),
            ("at most", self.maximum),
        )
        return ", ".join(f"{word} {end:g}" for word, end in ends if end is not None)


def key(default: Any, meaning: str, *, kind: type | None = None, **info: Any) -> Any:
    """Declare one setting: its default, and what :class:`KeyInfo` holds about it.

    Parameters
    ----------
    default : value
        None: the stage finds a value by itself.
    meaning : str
        See :class:`KeyInfo`.
    kind : type, optional
        Needed where the default is None.
    **info
        Other fields of :class:`KeyInfo`.
    """
    declared = KeyInfo(meaning, kind or type(default), **info)
    return field(default=default, metadata={"info": declared})


def setting(default: Any, meaning: str, **info: Any) -> Any:
    """Declare a setting of a library that is no key of the run's configuration; see :func:`key`."""
    return key(default, meaning, in_library_only=True, **info)


class Section:
    """Settings that belong together; a subclass is a frozen dataclass of declared fields."""

    def __post_init__(self) -> None:
        """Hold every value against its declaration.

        Raises
        ------
        ConfigurationError
            Naming the field, the value and what it may be.
        """
        for entry in fields(self):  # type: ignore[arg-type]
            info: KeyInfo | None = entry.metadata.get("info")
            if info is None:  # a section of its own, which has checked itself
                continue
            value = getattr(self, entry.name)
            if value is None and entry.default is None:
                continue
            checked(entry.name, value, info)


_EXPECTED: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple: "a tuple",
}


def checked(name: str, value: Any, info: KeyInfo, choices: Collection[str] = ()) -> Any:
    """Return a value as its declared type, if it is permitted; a path is made absolute.

    Parameters
    ----------
    name : str
        What the setting is called where it was set.
    value : value
        A whole number will do for a number.
    info : KeyInfo
        The declaration.
    choices : collection of str (default: ())
        Permitted values of a setting whose choices are open in its declaration; one that ends in a
        slash stands for every name behind it.

    Raises
    ------
    ConfigurationError
        Naming the setting, the value and what it may be.
    """
    if info.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not info.kind:
        raise ConfigurationError(
            f"{name} = {value!r} must be {_EXPECTED[info.kind]}, not {type(value).__name__}"
        )
    choices = choices or info.choices
    numbered = info.numbered and re.fullmatch(f"{info.numbered}:[0-9]+", str(value))
    behind = str(value).startswith(tuple(name for name in choices if name.endswith("/")))
    if choices and value not in choices and not numbered and not behind:
        if info.numbered:
            choices = [*choices, f"{info.numbered}:N"]
        raise ConfigurationError(unknown(name, str(value), choices))
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{name} = {value} must be finite")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for holds, word, end in (
            (operator.gt, "above", info.above),
            (operator.ge, "at least", info.minimum),
            (operator.lt, "below", info.below),
            (operator.le, "at most", info.maximum),
        ):
            if end is not None and not holds(value, end):
                raise ConfigurationError(f"{name} = {value} must be {word} {end:g}")
    if info.is_path and value and value not in info.words:
        return os.path.abspath(os.path.expanduser(str(value)))
    return value


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in a text that separates them by commas, without blanks and empty ones."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def unknown(what: str, value: str, choices: Collection[str]) -> str:
    """Say that a value is none of the choices, what was perhaps meant, and what there is."""
    listed = ", ".join(sorted(choices))
    return f"unknown {what} {value!r}.{meant(value, choices)} Choose one of: {listed}"


def meant(value: str, choices: Collection[str]) -> str:
    """Return a hint at the choice that is nearest to a value; empty if none is near."""
    close = difflib.get_close_matches(value, choices, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
