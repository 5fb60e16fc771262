"""Processes that carry out tasks: results, progress, errors, and their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from processes import WORTH_PROCESSES, Event, ProcessDied, Workers, cores, suitable

ROOT = Path(__file__).parent.parent


def square(report, number):
    report(f"squaring {number}")
    return number**2, os.getpid()


def refuse(report, number):
    raise ArithmeticError(f"not {number}")


def unportable(report):
    class LocalError(Exception):
        pass

    raise LocalError("of a class that no other process knows")


def die(report):
    os.kill(os.getpid(), signal.SIGKILL)


def threads(report):
    import torch

    return torch.get_num_threads()


def collect(workers: Workers, tasks: int) -> list[Event]:
    events: list[Event] = []
    while sum(event.done for event in events) < tasks:
        events.extend(workers.events(60))
    return events


def test_every_task_is_carried_out_once_and_reports_progress_before_its_result():
    with Workers(2) as workers:
        for number in range(7):
            workers.submit(str(number), square, number)
        events = collect(workers, 7)
        assert workers.unfinished == 0 and workers.free == 2
    results = {event.key: event.value for event in events if event.done}
    assert {key: value for key, (value, _) in results.items()} == {str(n): n**2 for n in range(7)}
    others = {process for _, process in results.values()}
    assert os.getpid() not in others and len(others) <= 2
    for number in range(7):
        own = [event for event in events if event.key == str(number)]
        assert [event.done for event in own] == [False, True]
        assert own[0].value == f"squaring {number}"


def touch(report, path):
    Path(path).touch()


def test_tasks_go_on_while_nobody_looks(tmp_path):
    """A grid that is asked rarely must not leave its processes idle."""
    files = [tmp_path / str(number) for number in range(3)]
    with Workers(1) as workers:
        for file in files:
            workers.submit(file.name, touch, str(file))
        deadline = time.monotonic() + 60
        while not all(file.exists() for file in files):
            assert time.monotonic() < deadline, "tasks that were submitted do not begin"
            time.sleep(0.05)
        assert len(collect(workers, 3)) == 3


def test_an_error_is_the_tasks_own_and_the_process_goes_on():
    with Workers(1) as workers:
        workers.submit("a", refuse, 3)
        workers.submit("b", unportable)
        workers.submit("c", square, 3)
        first, second, *_, last = collect(workers, 3)
    assert isinstance(first.error, ArithmeticError) and str(first.error) == "not 3"
    assert isinstance(second.error, RuntimeError) and "LocalError: of a class" in str(second.error)
    assert last.error is None and last.value[0] == 9


def test_a_process_that_dies_fails_its_task_alone_and_is_replaced():
    with Workers(1) as workers:
        workers.submit("a", die)
        workers.submit("b", square, 4)
        first, *_, last = collect(workers, 2)
    assert first.key == "a" and isinstance(first.error, ProcessDied)
    assert last.key == "b" and last.value[0] == 16


def test_the_processors_are_divided_among_the_processes():
    with Workers(cores()) as workers:
        workers.submit("a", threads)
        (event,) = collect(workers, 1)
    assert event.value == 1


def test_no_process_outlives_the_one_that_started_it(tmp_path):
    program = (
        "import os, sys, time\n"
        "sys.path[:0] = [os.getcwd(), 'tests']\n"
        "from processes import Workers\n"
        "from test_processes import square, collect\n"
        "if __name__ == '__main__':\n"
        "    workers = Workers(1)\n"
        "    workers.submit('a', square, 1)\n"
        "    print(collect(workers, 1)[-1].value[1], flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program, "utf-8")
    with subprocess.Popen([sys.executable, script], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)  # it lives
        parent.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the process goes on")


def test_as_many_processes_as_there_is_work_for():
    assert suitable(3, 10, 0.0) == 3  # asked for
    assert suitable(3, 2, 0.0) == 2  # but there are two tasks
    assert suitable(0, 10, WORTH_PROCESSES / 2) == 1  # not worth the start
    assert suitable(0, 10, WORTH_PROCESSES) == min(cores(), 8)
    assert suitable(0, 0, WORTH_PROCESSES) == 1
    with pytest.raises(ValueError, match="count = 0"):
        Workers(0)
