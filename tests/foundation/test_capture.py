"""Steps are recorded after their warm-up, once for each shape, and replayed in order."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from foundation import capture
from foundation.capture import WARM_UP, Capturable, captured
from tests.fake_graphs import FakeGraphs

CPU = torch.device("cpu")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> FakeGraphs:
    return FakeGraphs(monkeypatch)


class Sum:
    """A step: adds its input up in a tensor, and counts in Python how often it is called."""

    def __init__(self) -> None:
        self.calls, self.total = 0, torch.zeros(())

    def __call__(self, values: Tensor) -> Tensor:
        self.calls += 1
        self.total.add_(values.sum())
        return self.total * 2


def test_a_step_is_warmed_up_recorded_once_and_replayed_with_the_new_input(
    graphs: FakeGraphs,
) -> None:
    step = Sum()
    with captured(step, CPU) as take:
        doubles = [float(take(torch.full((3,), float(number)))) for number in range(WARM_UP + 4)]
    # As often as without: what was recorded was not done besides.
    assert doubles == [6.0 * sum(range(number + 1)) for number in range(WARM_UP + 4)]
    assert step.calls == WARM_UP + 1
    assert graphs.told == ["entered", "recorded", *["replayed"] * 4, "left"]


def test_every_shape_has_a_recording_of_its_own(graphs: FakeGraphs) -> None:
    step, expected = Sum(), 0.0
    with captured(step, CPU) as take:
        for turn in range(WARM_UP + 3):
            for size in (4, 3):
                take(torch.full((size,), float(turn)))
                expected += size * turn
    assert float(step.total) == expected
    assert graphs.told.count("recorded") == 2 and graphs.told.count("replayed") == 2 * 3


def test_what_is_given_may_change_afterwards(graphs: FakeGraphs) -> None:
    step, values = Sum(), torch.ones(2)
    with captured(step, CPU) as take:
        for _ in range(WARM_UP + 2):
            take(values)
            values.zero_()
            values += 1
    assert float(step.total) == 2 * (WARM_UP + 2)


def test_a_step_that_reads_a_value_goes_on_as_it_is_and_says_why_once(
    graphs: FakeGraphs, caplog: pytest.LogCaptureFixture
) -> None:
    total = torch.zeros(())

    def reading(values: Tensor) -> None:
        total.add_(values.sum() if float(values.max()) > 0 else 0.0)

    capture.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING), captured(reading, CPU) as take:
        for size in (2, 3):
            for _ in range(WARM_UP + 3):
                take(torch.ones(size))
    assert float(total) == 5 * (WARM_UP + 3)
    assert "replayed" not in graphs.told and graphs.told.count("recorded") == 1
    (said,) = caplog.messages
    assert "not permitted when stream is capturing" in said


def test_an_obstacle_is_said_and_nothing_recorded(
    graphs: FakeGraphs, caplog: pytest.LogCaptureFixture
) -> None:
    capture.warn_once.cache_clear()
    step = Sum()
    with caplog.at_level(logging.WARNING), captured(step, CPU, "it draws lots") as take:
        assert take is step
    assert "it draws lots" in caplog.text and not graphs.told


def test_it_can_be_switched_off(graphs: FakeGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(capture.SWITCH, "off")
    step = Sum()
    with captured(step, CPU) as take:
        assert take is step


def test_a_processor_records_nothing() -> None:
    step = Sum()
    with captured(step, CPU) as take:
        assert take is step


def test_nobody_knows_what_a_subclass_adds() -> None:
    class Known(Capturable, capturable=True):
        pass

    class Unknown(Known):
        pass

    assert Known.capturable and not Unknown.capturable
