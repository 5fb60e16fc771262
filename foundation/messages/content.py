"""What a message holds: written as states, numbers and settings; read as claims to be checked.

This and :mod:`foundation.messages.records` import Flower only when a message is really made.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from foundation.messages.records import (
    InvalidContent,
    from_record,
    names_in,
    packed,
    to_record,
)
from foundation.models import State

if TYPE_CHECKING:
    from flwr.app import RecordDict

Number = int | float

# What Flower's records of numbers and of settings are called in a message.
METRICS, CONFIG = "metrics", "config"
_BYTES_PER_NUMBER = 8


@dataclass(frozen=True)
class Content:
    """What one side tells the other.

    States are tensors by name, in groups. Numbers are what was measured or counted: with the
    states, this is what is counted as traffic. Settings are what the other side needs to know to
    read the rest. If ``joined``, tensors of one type travel as one array, which is cheaper where
    they are many; otherwise each under its own name, as clients of other apps expect it.
    """

    states: Mapping[str, State] = field(default_factory=dict)
    numbers: Mapping[str, Number | list[int] | list[float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    joined: bool = True

    def records(self) -> "RecordDict":
        """Return it as Flower carries it."""
        from flwr.app import ConfigRecord, MetricRecord, RecordDict

        pack = packed if self.joined else to_record
        records = RecordDict({name: pack(state) for name, state in self.states.items()})
        if self.numbers:
            records[METRICS] = MetricRecord(dict(self.numbers))
        if self.settings:
            records[CONFIG] = ConfigRecord(dict(self.settings))
        return records


class Received:
    """What the other side sent. Every method raises :class:`InvalidContent` for what cannot be."""

    def __init__(self, content: "RecordDict", held: State | None = None) -> None:
        self._content = content
        #: Entries that states may come without, since they are known here.
        self._held = held or {}

    @property
    def states(self) -> set[str]:
        """The names of the states."""
        return set(self._content.array_records)

    def state(self, name: str, expected: State) -> State:
        """Return tensors that must have the names, shapes and types of others."""
        record = self._content.array_records.get(name)
        if record is None:
            raise InvalidContent(f"the message lacks {name!r}")
        return from_record(record, expected, self._held)

    def part(self, name: str, expected: State) -> State:
        """Return those tensors of a state that were sent, whichever they are."""
        record = self._content.array_records[name]
        sent = {entry: expected[entry] for entry in names_in(record) if entry in expected}
        return from_record(record, sent)

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a setting, of whatever type."""
        record = self._content.config_records.get(CONFIG)
        return default if record is None else record.get(name, default)

    def whole_setting(self, name: str) -> int:
        """Return a setting that is a whole number from 0."""
        value = self.setting(name)
        if type(value) is not int or value < 0:
            raise InvalidContent(f"the server's message says {name} = {value!r}")
        return value

    def counted(self, name: str) -> int:
        """Return how many numbers are told under a name; 0 if none are."""
        values = self._numbers().get(name)
        return len(values) if isinstance(values, list) else 0

    def number(self, name: str) -> float:
        """Return a finite number."""
        value = self._numbers().get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidContent(f"the metric {name!r} is {str(value)[:40]}")
        return float(value)

    def whole_number(self, name: str, least: int, most: int) -> int:
        """Return a whole number from ``least`` to ``most``."""
        value = self._numbers().get(name)
        if type(value) is not int or not least <= value <= most:
            raise InvalidContent(f"{name} = {str(value)[:40]} is not from {least} to {most}")
        return value

    def whole_numbers(self, name: str, count: int, most: int) -> list[int]:
        """Return a list of ``count`` whole numbers from 0 to ``most``."""
        values = self._list(name, count)
        if not all(type(value) is int and 0 <= value <= most for value in values):
            raise InvalidContent(f"{name!r} are not whole numbers from 0 to {most}")
        return [int(value) for value in values]

    def losses(self, name: str, count: int) -> list[float]:
        """Return ``count`` sums of losses; infinite where a model's outputs are not finite."""
        values = self._list(name, count)
        if not all(isinstance(value, int | float) for value in values):
            raise InvalidContent(f"{name!r} are not numbers")
        found = [float(value) for value in values]
        if any(value < 0 for value in found):
            raise InvalidContent(f"{name!r} holds a loss below 0")
        return [math.inf if math.isnan(value) else value for value in found]

    def numbers(self, name: str, count: int) -> npt.NDArray[np.float64]:
        """Return ``count`` finite numbers."""
        values = self._list(name, count)
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            raise InvalidContent(f"{name!r} are not finite numbers")
        return np.array(values, dtype=np.float64)

    def _list(self, name: str, count: int) -> list[Any]:
        values = self._numbers().get(name)
        if not isinstance(values, list) or len(values) != count:
            raise InvalidContent(f"{name!r} are not {count} numbers")
        return values

    def _numbers(self) -> Mapping[str, Any]:
        record = self._content.metric_records.get(METRICS)
        if record is None:
            raise InvalidContent(f"the message lacks its numbers, {METRICS!r}")
        return record


def payload_bytes(content: "RecordDict") -> int:
    """Return the bytes of all tensors and numbers in a message.

    What nobody asked for was not checked: such an array counts as many bytes as it brings.
    """
    tensors = (
        min(math.prod(array.shape) * _itemsize(array.dtype), len(array.data))
        for record in content.array_records.values()
        for array in record.values()
    )
    numbers = (
        len(value) if isinstance(value, list) else 1
        for record in content.metric_records.values()
        for value in record.values()
    )
    return sum(tensors) + _BYTES_PER_NUMBER * sum(numbers)


def _itemsize(dtype: str) -> int:
    try:
        return np.dtype(dtype).itemsize
    except TypeError:
        return sys.maxsize
