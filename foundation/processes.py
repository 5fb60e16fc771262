"""Work shared out over processes of this machine.

It consists of many small tensor operations under one interpreter lock: two threads invert two
models 1.2 to 1.5 times as fast as one, two processes twice as fast.
"""

import contextlib
import multiprocessing
import multiprocessing.util
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Self

from foundation import ExpectedError
from foundation.members import prefer, preferred

#: Floating-point operations from which it pays to start processes, whose imports take a few
#: seconds: about five seconds of work on a model for 8x8 images.
WORTH_PROCESSES = 1.5e11

_AT_MOST = 8
#: Clients that share a GPU at most. On an H200 fourteen processes made three times as many steps of
#: resnet8 as one, and five times as many under NVIDIA's MPS.
CLIENTS_PER_GPU = 4
#: Before a process that could not be started is tried again.
_PAUSE_SECONDS = 0.5
_FORKSERVER = "forkserver"
_SETTING_ENVIRONMENT = threading.Lock()
#: Bytes of the path of a socket.
_LONGEST_SOCKET = 107
#: Loaded once, before processes are forked. The third: by torch's optimizers on their first step.
_PRELOAD = ["torch", "numpy", "torch._dynamo"]


#: Environment variables of this prefix are handed down to the processes that are started here.
_HANDED_DOWN = "FEDF2DG_"
#: How often to look how busy the machine is, and how long between: for a typical moment.
_LOOKS = 9
_LOOK_SECONDS = 0.01
_SHARE = "FEDF2DG_CORES"


def cores() -> int:
    """Return the number of processors this process may use: the system's, or its share of them."""
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    return min(there, _positive(os.environ.get(_SHARE), there))


def threads() -> int:
    """Return the most threads that tensor operations of this process should use.

    One per processor it may use, or fewer if ``OMP_NUM_THREADS`` says so (Ray sets it in a
    simulated client's process), or if other programs use them now. Threads wait for each other
    after every operation, so one that has no processor holds up all: on a busy machine of two
    processors, rounds took five to nine times as long with two threads as with one, while on a free
    one the second gains a factor of 1.5.
    """
    most = min(cores(), _positive(os.environ.get("OMP_NUM_THREADS"), cores()))
    if most == 1:
        return 1
    return min(most, max(1, (os.cpu_count() or most) - running_elsewhere()))


def running_elsewhere() -> int:
    """Return how many threads of other programs this machine runs now; 0 where it does not say."""
    found = []
    for _ in range(_LOOKS):
        try:
            statistics = Path("/proc/stat").read_text("ascii", "replace")
        except OSError:
            return 0
        ready = re.search(r"^procs_running (\d+)$", statistics, re.MULTILINE)
        found.append(int(ready[1]) - 1 if ready else 0)  # without this one
        time.sleep(_LOOK_SECONDS)
    return max(0, sorted(found)[len(found) // 2])


def share_of_cores(count: int) -> dict[str, str]:
    """Return the environment variables of each of ``count`` processes that work side by side.

    They hold the product's own variables, and the part of this process's processors that each may
    use, and share out in turn.
    """
    own = {name: value for name, value in os.environ.items() if name.startswith(_HANDED_DOWN)}
    return own | {_SHARE: str(max(1, cores() // count))}


def running(program: str) -> int:
    """Return how many processes of a program (a file name) this machine runs and shows."""
    if Path("/proc/self/cmdline").exists():
        commands = [_words(entry) for entry in Path("/proc").glob("[0-9]*/cmdline")]
    else:
        listed = subprocess.run(
            ["ps", "-A", "-o", "args="], capture_output=True, text=True, check=False
        )
        commands = [line.split() for line in listed.stdout.splitlines()]
    # A Python script stands behind its interpreter.
    return sum(program in (Path(word).name for word in words[:2]) for words in commands)


def _words(command_line: Path) -> list[str]:
    try:
        return command_line.read_text("utf-8", "replace").split("\0")
    except OSError:  # it ended meanwhile, or is another user's
        return []


def _positive(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdigit() and int(text) else otherwise


def suitable(wish: int, tasks: int, operations: float, gpus: int = 0) -> int:
    """Return how many processes to share tasks over; 1 means none but this one.

    A ``wish`` of 0 leaves it to the machine and the work: one per processor, at most 8, if all
    tasks together are enough floating-point ``operations``; on GPUs one for each.
    """
    if wish == 0 and gpus:
        wish = gpus
    elif wish == 0:
        wish = min(cores(), _AT_MOST) if operations >= WORTH_PROCESSES else 1
    return max(1, min(wish, tasks))


class ProcessDied(ExpectedError, RuntimeError):
    """A process ended in the middle of a task (out of memory), or could not be started for it."""


class TaskTimeout(ExpectedError, RuntimeError):
    """A task took longer than it was given; its process was ended."""


@dataclass(frozen=True)
class Event:
    """What a task reports: progress, or, when it is done, what it returned.

    Where it failed, ``error`` is what it raised; :class:`ProcessDied`; :class:`TaskTimeout`; or
    RuntimeError if its answer cannot be read here.
    """

    key: str
    done: bool
    value: Any = None
    error: Exception | None = None


class Workers:
    """Processes that carry out tasks for this one, each task in whichever is free.

    They end when they are closed, or when this process ends in whatever way. One that dies is
    replaced; its task has failed. As a context manager they are closed with the block. Process k
    gets the (k mod length)-th of the environment ``variables``.
    """

    def __init__(self, count: int, variables: Sequence[Mapping[str, str]] = ()) -> None:
        self.count = count
        self._variables = [dict(each) for each in variables] or [{}]
        self._context = start_context(_PRELOAD)
        self._open()

    def _open(self) -> None:
        self._closing = False
        self._unfinished = 0
        self._tasks: SimpleQueue[
            tuple[str, Callable[..., Any], tuple[Any, ...], float | None] | None
        ] = SimpleQueue()
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._attendants: list[threading.Thread] = []
        self._processes: set[BaseProcess] = set()
        self._starting = threading.Lock()

    @property
    def free(self) -> int:
        """Number of tasks that could be submitted and would begin at once."""
        return self.count - self._unfinished

    def submit(
        self,
        key: str,
        task: Callable[..., Any],
        *arguments: Any,
        timeout: float | None = None,
    ) -> None:
        """Have ``task(report, *arguments)`` called in a process; ``report(value)`` is progress.

        The task is a function of a module. Its arguments are copied when it begins, and are not to
        be changed until then; what it returns is copied back. The seconds of ``timeout`` count from
        when its process has received it, whatever others there are.
        """
        self._unfinished += 1
        self._tasks.put((key, task, arguments, timeout))
        if len(self._attendants) < min(self.count, self._unfinished):
            variables = self._variables[len(self._attendants) % len(self._variables)]
            attendant = threading.Thread(target=self._attend, args=(variables,), daemon=True)
            attendant.start()
            self._attendants.append(attendant)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Yield what has been reported; waits for the first report, ``timeout`` seconds at most."""
        if not self._unfinished:
            return
        with contextlib.suppress(Empty):
            event = self._events.get(timeout=timeout)
            while True:
                self._unfinished -= event.done
                yield event
                event = self._events.get_nowait()

    def close(self) -> None:
        """End the processes, whatever they are doing; new tasks get new ones."""
        with self._starting:
            self._closing = True
            for process in self._processes:
                process.kill()
        for _ in self._attendants:
            self._tasks.put(None)
        for attendant in self._attendants:
            attendant.join()
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attend(self, variables: Mapping[str, str]) -> None:
        """Give a process of one's own one task after the other: a thread for each process."""
        own: tuple[BaseProcess, Connection] | None = None
        while (item := self._tasks.get()) is not None and not self._closing:
            key, task, arguments, timeout = item
            try:
                # Plain pickle, between this process and its own children: multiprocessing's would
                # send tensors as shared memory, of which containers have little.
                content = pickle.dumps((task, arguments))
            except Exception as uncopied:
                self._events.put(Event(key, True, error=uncopied))
                continue
            try:
                own = own or self._start(variables)
            except Exception as unstarted:
                self._events.put(Event(key, True, error=unstarted))
                continue
            if own is None:
                return
            process, connection = own
            failure = self._converse(key, content, connection, timeout)
            if failure is not None:
                # What it may still send must not be taken for the next task's answer.
                own = None
                self._bury(process, connection)
                self._events.put(Event(key, True, error=failure))
        if own is not None:
            self._bury(*own)

    def _converse(
        self, key: str, content: bytes, connection: Connection, timeout: float | None
    ) -> Exception | None:
        """Have a task carried out; return why its process is of no use any more, if it is not."""
        try:
            connection.send_bytes(content)
            began = time.monotonic()
            done = False
            while not done:
                if timeout is not None:
                    left = began + timeout - time.monotonic()
                    if not connection.poll(max(0.0, left)):
                        return TaskTimeout(f"no answer within {timeout:g} s: its process was ended")
                answer = connection.recv_bytes()
                try:
                    done, value, error = pickle.loads(answer)
                except Exception as unread:
                    kind = type(unread).__name__
                    failure = RuntimeError(f"its answer cannot be read ({kind}: {unread})")
                    failure.__cause__ = unread
                    return failure
                self._events.put(Event(key, done, value, error))
        except (EOFError, OSError):  # the latter: in the middle of an answer
            return ProcessDied("its process ended (out of memory?)")
        except Exception as failure:
            return failure
        return None

    def _start(self, variables: Mapping[str, str]) -> tuple[BaseProcess, Connection] | None:
        """Return a new process, or None if there shall be no more."""
        reasons: dict[str, Exception] = {}
        # A start that breaks off ends the fork server too, which takes seconds and refuses everyone
        # meanwhile: the second time without it.
        for context in (self._context, multiprocessing.get_context("spawn")):
            if reasons:
                time.sleep(_PAUSE_SECONDS)
            try:
                return self._try_start(context, variables)
            except Exception as error:
                reasons[f"{type(error).__name__}: {error}"] = error
        raise ProcessDied(f"no process could be started: {'; '.join(reasons)}")

    def _try_start(
        self, context: Any, variables: Mapping[str, str]
    ) -> tuple[BaseProcess, Connection] | None:
        with self._starting:
            if self._closing:
                return None
            ours, theirs = self._context.Pipe()
            try:
                environment = {**share_of_cores(self.count), **variables}
                arguments = (theirs, environment, preferred())
                process = context.Process(target=_serve, args=arguments, daemon=True)
                begin(process)
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            self._processes.add(process)
            return process, ours

    def _bury(self, process: BaseProcess, connection: Connection) -> None:
        connection.close()
        process.kill()
        process.join()
        with self._starting:
            self._processes.discard(process)


class WorkerPool:
    """Offers the engine's processes, which are free between messages, or starts its own.

    The key ``processes`` is the ``wish`` (0: left to the machine and the work); ``gpus`` are the
    environments of a process for each GPU; ``given`` are the engine's processes.
    """

    def __init__(
        self, wish: int, gpus: Sequence[Mapping[str, str]], given: Workers | None = None
    ) -> None:
        self._wish = wish
        self._gpus = gpus
        self._given = given
        self._own: Workers | None = None

    def workers(self, tasks: int, operations: float) -> Workers | None:
        """Return processes to share tasks over; None if they are best done in this one."""
        count = suitable(self._wish, tasks, operations, len(self._gpus))
        if count == 1:
            return None
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = Workers(count, self._gpus)
        return self._own

    def close(self) -> None:
        """End the processes that were started."""
        if self._own is not None:
            self._own.close()


def prepare(modules: Sequence[str] = ()) -> None:
    """Begin to load modules that tasks will need, on another processor, while this one goes on."""
    if start_context([*_PRELOAD, *modules]).get_start_method() == _FORKSERVER:
        from multiprocessing import forkserver

        with _imported_safely():
            forkserver.ensure_running()


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what is inside as Ctrl-C does, where signals can be handled.

    They are what timeout and service managers send, and a terminal that is closed. Under nohup,
    SIGHUP is ignored and stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ends = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ends.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def begin(process: BaseProcess) -> None:
    """Start a process, which imports nothing from the working folder while it does."""
    with _imported_safely():
        process.start()


@contextlib.contextmanager
def _imported_safely() -> Iterator[None]:
    """Start Python without the working folder on its path, where any types.py would end it.

    Ctrl-C reaches every process of the terminal. One that still imports would end in a traceback;
    it inherits that the signal is blocked, and this process hears it afterwards.
    """
    with _SETTING_ENVIRONMENT:
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        mask = None
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()  # whose start would unblock it again
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            if mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if before is None:
                del os.environ["PYTHONSAFEPATH"]
            else:
                os.environ["PYTHONSAFEPATH"] = before


def start_context(preload: Sequence[str]) -> Any:
    """Return how to start processes: forked, where possible, from one that has loaded modules."""
    can_fork = _FORKSERVER in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    if can_fork and _sockets_have_room():
        context = multiprocessing.get_context(_FORKSERVER)
        context.set_forkserver_preload(list(preload))
        return context
    return multiprocessing.get_context("spawn")


def _serve(connection: Connection, environment: dict[str, str], packages: dict[str, Path]) -> None:
    """Carry out tasks until the other end is closed."""
    for name, folder in packages.items():
        prefer(folder.parent, [name])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the starting process's affair
    os.environ.update(environment)
    import torch

    torch.set_num_threads(threads())

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


def _sockets_have_room() -> bool:
    """See to a folder for sockets whose path is short enough, which TMPDIR's may not be.

    The system takes 107 bytes (``unix(7)``); those of job schedulers are often longer.
    """
    longest = "/pymp-12345678/listener-12345678"
    if len(os.fsencode(tempfile.gettempdir() + longest)) <= _LONGEST_SOCKET:
        return True
    usual, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        multiprocessing.util.get_temp_dir()  # made once in a process, and kept
    except OSError:
        return False
    finally:
        tempfile.tempdir = usual
    return True


def _portable(error: Exception) -> Exception:
    """Return the error, or its text if it cannot be copied to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
