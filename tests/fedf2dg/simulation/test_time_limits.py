"""A message that asks for the work of several rounds has the time of several."""

from types import SimpleNamespace
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from fedf2dg.simulation.local_grid import ParallelGrid
from foundation.messages.content import CONFIG


class Listening:
    """Workers that only note how long a client may take."""

    count = 1

    def __init__(self) -> None:
        self.limits: list[float | None] = []

    def submit(self, *given: Any, timeout: float | None) -> None:
        self.limits.append(timeout)


def test_the_time_of_a_client_grows_with_the_rounds_that_it_is_asked_for() -> None:
    workers: Any = Listening()
    grid = ParallelGrid(lambda: SimpleNamespace(), 1, workers, timeout=10.0)  # type: ignore
    for settings in ({}, {"rounds": 0}, {"rounds": 7}):
        content = RecordDict({CONFIG: ConfigRecord(settings)})
        grid.push_messages([Message(content, 100, "query.own_model")])
    assert workers.limits == [10.0, 10.0, 70.0]
