"""A table of all numbers: ``metrics.csv`` in the run's directory."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.events.sinks import Sink


class CsvFile:
    """One line for each number: group, step, name, value. It takes no pictures."""

    def __init__(self, directory: Path, configuration: Mapping[str, Any]) -> None:
        self._file = (directory / "metrics.csv").open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(["group", "step", "name", "value"])

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        self._writer.writerows([group, step, name, value] for name, value in values.items())
        self._file.flush()

    def picture(self, name: str, step: int, png: bytes) -> None:
        pass  # a table holds none

    def close(self) -> None:
        self._file.close()


sink = Sink("csv", CsvFile)
