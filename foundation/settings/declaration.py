"""How a setting is declared, and how a value is held against its declaration.

The sections of a run's configuration are frozen dataclasses whose fields say what they mean. They
are at the same time the settings of the libraries ``generation`` and ``distillation``: what the
configuration accepts is the very object that a stage is given, so the two cannot disagree.
"""

import inspect
import math
import operator
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

from foundation.errors import ConfigurationError as ConfigurationError
from foundation.members import Family
from foundation.wording import names_in, unknown

Value = str | int | float | bool


@dataclass(frozen=True)
class KeyInfo:
    """What a user needs to know about one setting; ``meaning`` is a sentence."""

    meaning: str
    #: ``str``, ``int``, ``float`` or ``bool``.
    kind: type
    unit: str = ""
    #: What the paper calls it.
    symbol: str = ""
    #: Ends of a number's range: included, and excluded.
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    #: Permitted values, those of a Literal in the annotation; empty if they are open.
    choices: tuple[str, ...] = ()
    #: Whose member the value names; several, separated by commas, where that is permitted.
    family: Family | None = None
    several: bool = False
    #: A choice that a number may follow, behind a colon: ``cuda`` permits ``cuda:1``.
    numbered: str = ""
    #: The flag of the original research script.
    original: str = ""
    #: First stage whose result depends on the key; empty: the section's. A run that is resumed
    #: behind that stage must keep the value; keys that bind ``run`` may always change.
    binds: str = ""
    #: Whether the value is a path, which is made absolute where a configuration is parsed: other
    #: processes of the run have working directories of their own.
    is_path: bool = False
    #: Values of a path key that are no path, and of a family's that are no member.
    words: tuple[str, ...] = ()
    #: Whether only the libraries' users can set it; it is no key of the run's configuration.
    in_library_only: bool = False

    @property
    def range(self) -> str:
        """The permitted values in words; empty if any will do."""
        if self.choices:
            return ", ".join(self.every_choice)
        if self.family:
            return ", ".join([*self.words, *self.family.ours, "module:name"])
        return ", ".join(f"{word} {end:g}" for word, _, end in self.ends)

    @property
    def every_choice(self) -> list[str]:
        """The choices, and what may follow one."""
        return [*self.choices, *([f"{self.numbered}:N"] if self.numbered else [])]

    @property
    def ends(self) -> Iterator[tuple[str, Callable[[float, float], bool], float]]:
        """The ends of a number's range: in words, how a value compares, and the end."""
        for word, holds, end in (
            ("above", operator.gt, self.above),
            ("at least", operator.ge, self.minimum),
            ("below", operator.lt, self.below),
            ("at most", operator.le, self.maximum),
        ):
            if end is not None:
                yield word, holds, end


def key(default: Any, meaning: str, *, kind: type | None = None, **info: Any) -> Any:
    """Declare one setting: its default, and what :class:`KeyInfo` holds about it.

    A default of None, whose ``kind`` has to be said, lets the stage find a value by itself.
    """
    declared = KeyInfo(meaning, kind or type(default), **info)
    return field(default=default, metadata={"info": declared})


def setting(default: Any, meaning: str, **info: Any) -> Any:
    """Declare a setting of a library that is no key of the run's configuration; see :func:`key`."""
    return key(default, meaning, in_library_only=True, **info)


class Section:
    """Settings that belong together; a subclass is a frozen dataclass of declared fields.

    ``class MoonSettings(Section, name="moon")`` is the section ``moon`` of a run's configuration:
    its keys are ``moon.mu`` and so on. A file of this folder that holds one is all that a section
    needs; a member of a user's own brings its section as its ``settings``.
    """

    section_name: ClassVar[str] = ""
    section_binds: ClassVar[str] = "train"

    def __init_subclass__(cls, name: str = "", binds: str = "") -> None:
        """Note the section's name, the first stage whose result depends on it, and choices."""
        super().__init_subclass__()
        cls.section_name = name
        cls.section_binds = binds or cls.section_binds
        for entry, hint in inspect.get_annotations(cls).items():
            declared = vars(cls).get(entry)
            if getattr(hint, "__origin__", None) is Literal and isinstance(declared, Field):
                info = replace(declared.metadata["info"], choices=get_args(hint))
                declared.metadata = MappingProxyType({"info": info})

    def __post_init__(self) -> None:
        """Hold every value against its declaration; a ConfigurationError says what it may be."""
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
}


def checked(name: str, value: Any, info: KeyInfo) -> Any:
    """Return a value as its declared type, if it is permitted; a path is made absolute.

    ``name`` is what the setting is called where it was set. A whole number will do for a number. A
    ConfigurationError names the setting, the value and what it may be.
    """
    if info.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not info.kind:
        raise ConfigurationError(
            f"{name} = {value!r} must be {_EXPECTED[info.kind]}, not {type(value).__name__}"
        )
    if info.family and value not in info.words:
        for member in names_in(str(value)) if info.several else [str(value)]:
            info.family.require(member, info.words)
    numbered = info.numbered and re.fullmatch(f"{info.numbered}:[0-9]+", str(value))
    if info.choices and value not in info.choices and not numbered:
        raise ConfigurationError(unknown(name, str(value), info.every_choice))
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{name} = {value} must be finite")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for word, holds, end in info.ends:
            if not holds(value, end):
                raise ConfigurationError(f"{name} = {value} must be {word} {end:g}")
    if info.is_path and value and value not in info.words:
        return os.path.abspath(os.path.expanduser(str(value)))
    return value
