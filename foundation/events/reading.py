"""Events as JSON, and back: a run's file is read whatever state, and of whatever release, it is.

What does not fit an event is nothing there, and not an error: see :mod:`foundation.events.family`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from foundation.events.family import Event

#: The file's name in a run's directory: one JSON object a line, readable at any moment.
METRICS = "metrics.jsonl"
_hints = cache(get_type_hints)
#: A field of an event that takes all keys that are no other's.
_NOTES = "notes"


class _UnfitError(ValueError):
    """A value that a field cannot hold."""


@dataclass(frozen=True)
class Told:
    """What a run's file tells, in the order of writing, and what of it is damaged, a sentence each.

    Events of a kind that is not known here are left out.
    """

    events: tuple[Event, ...] = ()
    problems: tuple[str, ...] = ()


def read_run(directory: Path | str) -> Told:
    """Read the events of a run, also while another process writes them; OSError if it cannot."""
    content = (Path(directory) / METRICS).read_bytes()
    events, problems = [], []
    # A last line that is not complete is being written.
    for number, line in enumerate(content[: complete_bytes(content)].split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, Mapping):
                raise ValueError("not a JSON object")
        except ValueError as error:
            problems.append(f"{METRICS}, line {number} could not be read: {error}.")
            continue
        if (event := from_json(values)) is not None:
            events.append(event)
    return Told(tuple(events), tuple(problems))


def from_json(values: Mapping[str, Any]) -> Event | None:
    """Return the event that a line tells; None if its kind is not known here, or it is broken."""
    kind = _kinds().get(str(values.get("event")))
    try:
        return None if kind is None else _built(kind, values)
    except _UnfitError:
        return None


def to_json(event: Event) -> dict[str, Any]:
    """Return the keys and values of an event; its kind is its class's ``event``."""
    found: dict[str, Any] = _plain(event)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if not is_dataclass(value):
        return value
    found: dict[str, Any] = {}
    for entry in fields(value):
        content = getattr(value, entry.name)
        if entry.name == _NOTES:
            found |= content
        elif content != entry.default:
            found[_key(entry)] = _plain(content)
    return found


def number(value: Any) -> float | None:
    """Return a finite number as float, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


@cache
def _kinds() -> dict[str, type[Event]]:
    return {kind.event: kind for kind in Event.__subclasses__() if kind.event}


def _key(entry: Field[Any]) -> str:
    return str(entry.metadata.get("key", entry.name))


def _built(kind: type, values: Mapping[str, Any]) -> Any:
    """Return a dataclass from the values under its fields' keys."""
    hints, given = _hints(kind), {}
    for entry in fields(kind):
        hint = hints[entry.name]
        if entry.name == _NOTES:
            known = {"event", *map(_key, fields(kind))}
            given[entry.name] = {
                key: found
                for key, value in values.items()
                if key not in known and (found := number(value)) is not None
            }
            continue
        try:
            given[entry.name] = _fitted(hint, values.get(_key(entry)))
        except _UnfitError:
            given[entry.name] = _nothing(hint) if entry.default is MISSING else entry.default
    return kind(**given)


def _nothing(hint: Any) -> Any:
    if NoneType in get_args(hint):
        return None
    if hint is str:
        return ""
    if get_origin(hint) is Sequence:
        return ()
    if get_origin(hint) is Mapping:
        return {}
    raise _UnfitError


def _fitted(hint: Any, value: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if NoneType in inner:
        return None if value is None else _fitted(inner[0], value)
    if origin is Mapping and isinstance(value, Mapping):
        return value
    if origin is Sequence and isinstance(value, list):
        return tuple(_fitted(inner[0], item) for item in value)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return _built(hint, value)
    if hint is float and (found := number(value)) is not None:
        return found
    if hint is int and (found := number(value)) is not None and found == int(found):
        return int(found)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    raise _UnfitError


def complete_bytes(content: bytes) -> int:
    """Return the number of bytes up to and with the last line end."""
    return content.rfind(b"\n") + 1
