"""Work shared out over processes of this machine.

The work here is made of many small tensor operations under one interpreter lock: two threads invert
two models 1.2 to 1.5 times as fast as one, two processes twice as fast.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

#: Floating-point operations from which it pays to start processes, whose imports take a few
#: seconds: about five seconds of work on a model for 8x8 images.
WORTH_PROCESSES = 1.5e11

_AT_MOST = 8
_FORKSERVER = "forkserver"
#: Loaded once, before processes are forked. The third: by torch's optimizers on their first step.
_preload = ["torch", "numpy", "torch._dynamo"]


def cores() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def suitable(wish: int, tasks: int, operations: float) -> int:
    """Return how many processes to share tasks over; 1 means none but this one.

    Parameters
    ----------
    wish : int
        Number asked for; 0 leaves it to the machine and the work: one per processor, at most 8.
    tasks : int
        Tasks that could be done at the same time.
    operations : float
        Floating-point operations of all of them.
    """
    if wish == 0:
        wish = min(cores(), _AT_MOST) if operations >= WORTH_PROCESSES else 1
    return max(1, min(wish, tasks))


class ProcessDied(RuntimeError):
    """A process ended in the middle of a task, as when the machine runs out of memory."""


@dataclass(frozen=True)
class Event:
    """What a task reports.

    Parameters
    ----------
    key : str
        The task's, as submitted.
    done : bool
        Whether the task has ended; otherwise ``value`` is progress it reported.
    value : object
        What the task returned or reported; None if it failed.
    error : Exception, optional
        What the task raised; :class:`ProcessDied` if its process ended.
    """

    key: str
    done: bool
    value: Any = None
    error: Exception | None = None


class Workers:
    """Processes that carry out tasks for this one, each task in whichever is free.

    They end when they are closed, or when this process ends in whatever way. One that dies is
    replaced; its task has failed. As a context manager they are closed with the block.

    Parameters
    ----------
    count : int
        Number of processes.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"count = {count}: must be 1 or more")
        self.count = count
        self._context = _context()
        self._queue: deque[tuple[str, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._processes: dict[Connection, BaseProcess] = {}
        self._busy: dict[Connection, str] = {}

    @property
    def free(self) -> int:
        """Number of tasks that could be submitted and would begin at once."""
        return self.count - len(self._busy) - len(self._queue)

    @property
    def unfinished(self) -> int:
        """Number of tasks submitted that have not ended."""
        return len(self._busy) + len(self._queue)

    def submit(self, key: str, task: Callable[..., Any], *arguments: Any) -> None:
        """Have ``task(report, *arguments)`` called in a process; ``report(value)`` is progress.

        Parameters
        ----------
        key : str
            Names the task in its events.
        task : callable
            A function of a module.
        arguments : object
            Copied to the process when the task begins, as what it returns is copied back.
        """
        self._queue.append((key, task, arguments))
        self._begin()

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Yield what has been reported; waits for the first report if there is none yet.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.
        """
        if not self._busy:
            return
        for connection in wait(list(self._busy), timeout):
            assert isinstance(connection, Connection)
            key = self._busy[connection]
            try:
                done, value, error = pickle.loads(connection.recv_bytes())
            except (EOFError, ConnectionError):
                self._bury(connection)
                self._begin()
                yield Event(key, True, error=ProcessDied("its process ended (out of memory?)"))
                continue
            if done:
                del self._busy[connection]
                self._begin()
            yield Event(key, done, value, error)

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        self._queue.clear()
        for connection in list(self._processes):
            self._bury(connection)

    def __enter__(self) -> Workers:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self.close()

    def _begin(self) -> None:
        """Give waiting tasks to free processes, which are started when they are needed."""
        while self._queue and len(self._busy) < self.count:
            free = [each for each in self._processes if each not in self._busy]
            connection = free[0] if free else self._start()
            key, task, arguments = self._queue.popleft()
            # Plain pickle, between this process and its own children: multiprocessing's would send
            # tensors as shared memory, of which containers have little.
            content = pickle.dumps((task, arguments))
            self._busy[connection] = key
            with contextlib.suppress(ConnectionError):  # it died: its end is noticed as an event
                connection.send_bytes(content)

    def _start(self) -> Connection:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, max(1, cores() // self.count)), daemon=True
        )
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def _bury(self, connection: Connection) -> None:
        process = self._processes.pop(connection)
        self._busy.pop(connection, None)
        connection.close()
        process.kill()
        process.join()


def prepare(modules: Sequence[str] = ()) -> None:
    """Begin to load what processes will need, on another processor, while this one goes on.

    Parameters
    ----------
    modules : sequence of str
        Modules the tasks will need.
    """
    _preload.extend(modules)
    context = _context()
    if context.get_start_method() == _FORKSERVER:
        from multiprocessing import forkserver

        forkserver.ensure_running()


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end what is inside as Ctrl-C does, where signals can be handled.

    It is what timeout, service managers and the like send: nothing should be left behind.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _context() -> Any:
    if _FORKSERVER in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(_FORKSERVER)
        context.set_forkserver_preload(_preload)
        return context
    return multiprocessing.get_context("spawn")


def _serve(connection: Connection, threads: int) -> None:
    """Carry out tasks until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the starting process's affair
    import torch

    torch.set_num_threads(threads)

    def report(value: Any) -> None:
        connection.send_bytes(pickle.dumps((False, value, None)))

    while True:
        try:
            task, arguments = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            return
        try:
            answer = pickle.dumps((True, task(report, *arguments), None))
        except Exception as error:
            answer = pickle.dumps((True, None, _portable(error)))
        try:
            connection.send_bytes(answer)
        except ConnectionError:
            return


def _portable(error: Exception) -> Exception:
    """Return the error, or its text if it cannot be copied to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
