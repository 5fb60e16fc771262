"""Processes that carry out tasks: results, progress, errors, and their ends."""

import errno
import os
import signal
import struct
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from foundation import processes
from foundation.processes import (
    WORTH_PROCESSES,
    Event,
    ProcessDied,
    TaskTimeout,
    Workers,
    cores,
    running,
    share_of_cores,
    suitable,
)
from foundation.processes import threads as most_threads

ROOT = Path(__file__).parents[2]


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


def share(report):
    """Return what a process may use, and what each of two that it would start may."""
    return cores(), share_of_cores(2)["FEDF2DG_CORES"], most_threads()


def sleep(report, seconds):
    report("began")
    time.sleep(seconds)
    return seconds


def collect(workers: Workers, tasks: int) -> list[Event]:
    events: list[Event] = []
    deadline = time.monotonic() + 60
    while sum(event.done for event in events) < tasks:
        assert time.monotonic() < deadline, f"tasks that do not end; so far {events}"
        events.extend(workers.events(5))
    return events


def test_every_task_is_carried_out_once_and_reports_progress_before_its_result():
    with Workers(2) as workers:
        for number in range(7):
            workers.submit(str(number), square, number)
        events = collect(workers, 7)
        assert workers.free == 2
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


def die_in_the_middle_of_the_answer(report):
    (cell,) = report.__closure__
    os.write(cell.cell_contents.fileno(), struct.pack("!i", 1000) + b"the first bytes")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("dying", [die, die_in_the_middle_of_the_answer])
def test_a_process_that_dies_fails_its_task_alone_and_is_replaced(dying):
    with Workers(1) as workers:
        workers.submit("a", dying)
        workers.submit("b", square, 4)
        first, *_, last = collect(workers, 2)
    assert first.key == "a" and isinstance(first.error, ProcessDied)
    assert last.key == "b" and last.value[0] == 16


def fail_first(monkeypatch, errors: list[Exception]) -> None:
    """Have the next starts of processes fail, one for each error."""
    start = BaseProcess.start

    def fragile(process: BaseProcess) -> None:
        if errors:
            raise errors.pop(0)
        start(process)

    monkeypatch.setattr(BaseProcess, "start", fragile)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), EOFError()])
def test_a_process_that_could_not_be_started_is_tried_once_more(monkeypatch, error):
    with Workers(1) as workers:
        fail_first(monkeypatch, [error])
        workers.submit("a", square, 3)
        *_, last = collect(workers, 1)
    assert last.error is None and last.value[0] == 9


@pytest.mark.parametrize(
    ("errors", "reasons"),
    [
        (
            [OSError(errno.EMFILE, "Too many open files"), ConnectionRefusedError(111, "Refused")],
            f"OSError: [Errno {errno.EMFILE}] Too many open files; "
            "ConnectionRefusedError: [Errno 111] Refused",
        ),
        (
            [BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")] * 2,
            f"BlockingIOError: [Errno {errno.EAGAIN}] Resource temporarily unavailable",
        ),
        ([EOFError("unexpected EOF")] * 2, "EOFError: unexpected EOF"),
    ],
)
def test_without_a_process_a_task_fails_and_says_why_and_the_next_is_served(
    monkeypatch, errors, reasons
):
    with Workers(1) as workers:
        fail_first(monkeypatch, list(errors))
        workers.submit("a", square, 3)
        workers.submit("b", square, 4)
        first, *_, last = collect(workers, 2)
        assert workers.free == workers.count
    assert first.key == "a" and first.done and isinstance(first.error, ProcessDied)
    assert str(first.error) == f"no process could be started: {reasons}"
    assert last.key == "b" and last.error is None and last.value[0] == 16


def test_starts_that_fail_leave_nothing_open(monkeypatch):
    with Workers(2) as workers:
        pipes, pipe = [], workers._context.Pipe
        monkeypatch.setattr(workers._context, "Pipe", lambda: pipes.append(pipe()) or pipes[-1])
        fail_first(monkeypatch, [OSError(errno.EMFILE, "Too many open files")] * 8)
        for number in range(4):
            workers.submit(str(number), square, number)
        events = collect(workers, 4)
    assert len(pipes) == 8 and all(end.closed for ends in pipes for end in ends)
    assert all(isinstance(event.error, ProcessDied) for event in events)


def test_closing_does_not_wait_for_starts_that_fail(monkeypatch):
    with Workers(1) as workers:
        fail_first(monkeypatch, [OSError(errno.EAGAIN, "Resource temporarily unavailable")] * 1000)
        for number in range(100):
            workers.submit(str(number), square, number)
        before = time.monotonic()
        workers.close()
        assert time.monotonic() - before < 10
        assert workers.free == 1


class Homebound:
    """Can be read in the process that made it only."""

    def __init__(self, home: int) -> None:
        if os.getpid() != home:
            raise EOFError("far from home")
        self.home = home

    def __reduce__(self):
        return Homebound, (self.home,)


def answer_unreadably(report):
    return Homebound(os.getpid())


def report_unreadably(report):
    report(Homebound(os.getpid()))
    return "an answer that nobody waits for"


@pytest.mark.parametrize("task", [answer_unreadably, report_unreadably])
def test_what_cannot_be_read_fails_its_task_alone_and_ends_the_process(task):
    with Workers(1) as workers:
        workers.submit("a", square, 3)
        *_, first = collect(workers, 1)
        workers.submit("b", task)
        (failed,) = collect(workers, 1)
        workers.submit("c", square, 4)
        *_, last = collect(workers, 1)
        with pytest.raises(ProcessLookupError):
            os.kill(first.value[1], 0)
    assert failed.key == "b" and failed.done
    assert not isinstance(failed.error, ProcessDied)
    assert str(failed.error) == "its answer cannot be read (EOFError: far from home)"
    assert isinstance(failed.error.__cause__, EOFError)
    assert last.key == "c" and last.value[0] == 16 and last.value[1] != first.value[1]


def test_the_processors_are_divided_among_the_processes():
    with Workers(cores()) as workers:
        workers.submit("a", threads)
        (event,) = collect(workers, 1)
    assert event.value == 1


def test_no_process_outlives_the_one_that_started_it(tmp_path):
    program = (
        "import os, sys, time\n"
        "sys.path[:0] = [os.getcwd(), 'tests/foundation']\n"
        "from foundation.processes import Workers\n"
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


def test_a_hung_task_fails_by_its_name_and_the_others_go_on():
    with Workers(1) as workers:
        workers.submit("warm", sleep, 0.0)
        collect(workers, 1)
        workers.submit("hung", sleep, 600.0, timeout=0.3)
        workers.submit("next", sleep, 0.0, timeout=60)
        ended = {event.key: event for event in collect(workers, 2) if event.done}
    assert isinstance(ended["hung"].error, TaskTimeout)
    assert "no answer within 0.3 s" in str(ended["hung"].error)
    assert ended["next"].error is None


def test_a_task_is_not_charged_for_the_time_it_waited_for_a_free_process():
    """Four tasks of half the allowed time in one process: the last ends after twice that time."""
    with Workers(1) as workers:
        workers.submit("warm", sleep, 0.0)
        collect(workers, 1)
        for number in range(4):
            workers.submit(str(number), sleep, 0.5, timeout=1.0)
        assert all(event.error is None for event in collect(workers, 4))


def test_threads_leave_the_processors_that_other_programs_use(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("FEDF2DG_CORES", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    for busy, expected in ((0, 8), (8, 8), (10, 6), (15, 1), (40, 1)):
        monkeypatch.setattr(processes, "running_elsewhere", lambda busy=busy: busy)
        assert most_threads() == expected


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not say")
def test_programs_that_compute_are_noticed():
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * cores())
    ]
    try:
        time.sleep(1.0)
        assert processes.running_elsewhere() >= 2 * cores()
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked")
def test_ctrl_c_does_not_reach_a_process_that_still_imports():
    program = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"

    def blocked() -> str:
        return subprocess.check_output([sys.executable, "-c", program], text=True).strip()

    with processes._imported_safely():
        assert blocked() == "True"
    assert blocked() == "False"


def test_processes_share_out_what_their_starter_may_use(monkeypatch):
    monkeypatch.setattr(processes, "running_elsewhere", lambda: 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert cores() == 16
    assert share_of_cores(3)["FEDF2DG_CORES"] == "5"
    monkeypatch.setenv("FEDF2DG_CORES", share_of_cores(2)["FEDF2DG_CORES"])  # one of two cells
    assert cores() == most_threads() == 8
    assert share_of_cores(4)["FEDF2DG_CORES"] == "2"  # each of its four workers
    assert share_of_cores(100)["FEDF2DG_CORES"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (cores(), most_threads()) == (8, 3)


def test_a_worker_takes_its_share_however_it_was_started(monkeypatch):
    monkeypatch.setenv("FEDF2DG_CORES", "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with Workers(2) as workers:
        workers.submit("a", share)
        workers.submit("b", threads)
        assert [event.value for event in collect(workers, 2)] in (
            [(1, "1", 1), 1],
            [1, (1, "1", 1)],
        )


def test_programs_are_counted_by_their_file_name(tmp_path):
    script = tmp_path / "flower-pretender"
    script.write_text("import sys; print('up', flush=True); sys.stdin.read()")
    assert running("flower-pretender") == 0
    started = [
        subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        assert running("flower-pretender") == 2
    finally:
        for process in started:
            process.communicate()


def test_what_the_working_folder_holds_is_not_imported_and_a_long_tmpdir_does_not_matter(tmp_path):
    """Job folders of clusters are longer than the path of a socket may be."""
    deep = tmp_path / ("job-" + "0123456789" * 9)
    (deep / "work").mkdir(parents=True)
    for name in ("types", "signal", "selectors", "models", "torch"):
        (deep / "work" / f"{name}.py").write_text(f"raise RuntimeError('{name}.py')\n")
    program = (
        "from foundation.processes import Workers\n"
        "with Workers(1) as workers:\n"
        "    workers.submit('any', callable)\n"
        "    print([event.value for event in workers.events() if event.done])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=deep / "work",
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(deep)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[True]\n", done.stderr[-2000:]
