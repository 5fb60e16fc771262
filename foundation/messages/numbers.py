"""Numbers in a reply, checked before they are used."""

from __future__ import annotations

import math

from flwr.app import MetricRecord, RecordDict

from foundation.messages.records import InvalidContent


def metrics_of(content: RecordDict, name: str) -> MetricRecord:
    """Return one of a reply's metric records.

    Raises
    ------
    InvalidContent
        If it is missing.
    """
    record = content.metric_records.get(name)
    if record is None:
        raise InvalidContent(f"the reply lacks the numbers {name!r}")
    return record


def whole_numbers(record: MetricRecord, name: str, count: int, most: int) -> list[int]:
    """Return a list of ``count`` whole numbers from 0 to ``most``.

    Raises
    ------
    InvalidContent
        If it is something else.
    """
    values = record.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise InvalidContent(f"{name!r} are not {count} numbers")
    if not all(type(value) is int and 0 <= value <= most for value in values):
        raise InvalidContent(f"{name!r} are not whole numbers from 0 to {most}")
    return [int(value) for value in values]


def losses(record: MetricRecord, name: str, count: int) -> list[float]:
    """Return ``count`` sums of losses, 0 or more; infinite where a model's outputs are not finite.

    Raises
    ------
    InvalidContent
        If they are something else.
    """
    values = record.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise InvalidContent(f"{name!r} are not {count} numbers")
    if not all(isinstance(value, int | float) for value in values):
        raise InvalidContent(f"{name!r} are not numbers")
    found = [float(value) for value in values]
    if any(value < 0 for value in found):
        raise InvalidContent(f"{name!r} holds a loss below 0")
    return [math.inf if math.isnan(value) else value for value in found]
