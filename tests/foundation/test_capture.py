"""Steps are recorded after their warm-up, once for each shape, and replayed in order."""

import logging
import random

import pytest
import torch
from torch import Tensor

from foundation import capture
from foundation.capture import WARM_UP, Capturable, captured
from tests.fake_graphs import FakeGraphs

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "GIVEN_UP", set())
    capture.warn_once.cache_clear()


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

    def changes(self) -> dict[str, list[Tensor]]:
        return {"sum": [self.total]}


def test_a_step_is_warmed_up_recorded_once_and_replayed_with_the_new_input(
    graphs: FakeGraphs,
) -> None:
    step = Sum()
    with captured(step, CPU, step.changes) as take:
        doubles = [float(take(torch.full((3,), float(number)))) for number in range(WARM_UP + 4)]
    # As often as without: what was recorded was not done besides.
    assert doubles == [6.0 * sum(range(number + 1)) for number in range(WARM_UP + 4)]
    assert step.calls == WARM_UP + 2  # once recorded, and once to compare with
    assert graphs.told == ["entered", "recorded", *["replayed"] * 4, "left"]


def test_every_shape_has_a_recording_of_its_own(graphs: FakeGraphs) -> None:
    step, expected = Sum(), 0.0
    with captured(step, CPU, step.changes) as take:
        for turn in range(WARM_UP + 3):
            for size in (4, 3):
                take(torch.full((size,), float(turn)))
                expected += size * turn
    assert float(step.total) == expected
    assert graphs.told.count("recorded") == 2 and graphs.told.count("replayed") == 2 * 3


def test_what_is_given_may_change_afterwards(graphs: FakeGraphs) -> None:
    step, values = Sum(), torch.ones(2)
    with captured(step, CPU, step.changes) as take:
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

    with caplog.at_level(logging.WARNING), captured(reading, CPU, lambda: {"sum": [total]}) as take:
        for size in (2, 3):
            for _ in range(WARM_UP + 3):
                take(torch.ones(size))
    assert float(total) == 5 * (WARM_UP + 3)
    assert "replayed" not in graphs.told and graphs.told.count("recorded") == 1
    (said,) = caplog.messages
    assert "not permitted when stream is capturing" in said


class Reassigned(Sum):
    """Keeps a tensor by assignment: a replay finds the one that was there when it was recorded."""

    count = torch.zeros(())

    def __call__(self, values: Tensor) -> Tensor:
        self.calls += 1
        self.count = self.count + 1
        return self.total.add_(self.count)


class Lots(Sum):
    """Does not always do the same, by a lot that is drawn on the processor."""

    def __call__(self, values: Tensor) -> Tensor:
        return super().__call__(values if random.random() >= 0 else -values)


@pytest.mark.parametrize(
    ("step", "reason"),
    [(Reassigned(), "another sum and result 1"), (Lots(), "random numbers on the processor")],
)
def test_a_step_whose_replay_is_another_is_not_replayed(
    graphs: FakeGraphs, caplog: pytest.LogCaptureFixture, step: Sum, reason: str
) -> None:
    expected, calls = [], WARM_UP + 4
    for turn in range(2):
        with caplog.at_level(logging.WARNING), captured(step, CPU, step.changes) as take:
            assert (take is step) == (turn == 1)  # it is not tried again
            expected += [float(take(torch.ones(3))) for _ in range(calls)]
    assert expected == sorted(set(expected)) and step.calls == 2 * calls + 1
    assert graphs.told.count("recorded") == 1 and graphs.told.count("replayed") <= 1
    (said,) = caplog.messages
    assert reason in said


def test_memory_that_is_short_while_recording_is_no_reason_for_good(
    graphs: FakeGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(run: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    step = Sum()
    monkeypatch.setattr(graphs, "record", short)
    with captured(step, CPU, step.changes) as take:
        for _ in range(WARM_UP + 2):
            take(torch.ones(1))
    assert float(step.total) == WARM_UP + 2 and not capture.GIVEN_UP


@pytest.mark.parametrize("fails", [True, False])
def test_a_recording_that_cuda_breaks_off_leaves_the_allocator_as_it_was(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    told: list[tuple[object, ...]] = []

    class Graph:
        def capture_begin(self, pool: object, capture_error_mode: str) -> None:
            told.append(("begin", pool))

        def capture_end(self) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    for name, value in {
        "CUDAGraph": Graph,
        "Stream": lambda device: None,
        "graph_pool_handle": lambda: (0, 7),
        "current_device": lambda: 1,
        "synchronize": lambda device: None,
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, lambda *told_: told.append(told_), raising=False)

    def run() -> None:
        if fails:
            raise RuntimeError("operation not permitted when stream is capturing")

    device = torch.device("cuda:1")
    with pytest.raises(RuntimeError, match="not permitted" if fails else "previous error"):
        capture.CudaGraphs(device).record(run)
    capture._stream.cache_clear()
    assert told == [("begin", (0, 7)), (1, (0, 7)), (1, (0, 7))]


def test_an_obstacle_is_said_and_nothing_recorded(
    graphs: FakeGraphs, caplog: pytest.LogCaptureFixture
) -> None:
    step = Sum()
    with caplog.at_level(logging.WARNING), captured(step, CPU, dict, "it draws lots") as take:
        assert take is step
    assert "it draws lots" in caplog.text and not graphs.told


def test_it_can_be_switched_off(graphs: FakeGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(capture.SWITCH, "off")
    step = Sum()
    with captured(step, CPU, step.changes) as take:
        assert take is step


def test_a_processor_records_nothing() -> None:
    step = Sum()
    with captured(step, CPU, step.changes) as take:
        assert take is step


def test_nobody_knows_what_a_subclass_adds() -> None:
    class Known(Capturable, capturable=True):
        pass

    class Unknown(Known):
        pass

    assert Known.capturable and not Unknown.capturable
