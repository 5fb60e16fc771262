"""End a process and all it started when the process that started this one is gone.

``guard.py PROCESS FOLDER``, of the standard library alone, waits for the end of its standard input,
which the system closes even after a SIGKILL of the process that holds it open; then it ends the
process with its descendants and removes the folder. A SuperLink's descendants have sessions of
their own, and would go on with all of Ray.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

_SECONDS = 10.0


def groups_of(process: int) -> set[int]:
    """Return the process groups of a process and of its descendants that live now."""
    children: dict[int, list[int]] = defaultdict(list)
    group_of = {}
    for number, parent, group in _processes():
        children[parent].append(number)
        group_of[number] = group
    found: set[int] = set()
    waiting = [process]
    while waiting:
        number = waiting.pop()
        if number in group_of:
            found.add(group_of[number])
        waiting += children[number]
    return found - {os.getpgrp()}


def end_groups(groups: Iterable[int], seconds: float = _SECONDS) -> None:
    """Ask all processes of groups to end; those that are left afterwards are killed."""
    deadline = time.monotonic() + seconds
    left = _signalled(groups, signal.SIGTERM)
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = _signalled(left, 0)
    _signalled(left, signal.SIGKILL)


def _signalled(groups: Iterable[int], number: int) -> list[int]:
    """Send a signal (0: none) and return the groups in which there is somebody."""
    there = []
    for group in groups:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            continue
        there.append(group)
    return there


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield (process, its parent, its group) of all processes."""
    if Path("/proc/self/stat").exists():
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name, in parentheses, may hold spaces and parentheses.
                fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            yield int(stat.parent.name), int(fields[1]), int(fields[2])
        return
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,pgid="], capture_output=True, text=True, check=False
    )
    for line in listed.stdout.splitlines():
        number, parent, group = map(int, line.split())
        yield number, parent, group


def main() -> None:
    """Wait, then end the process."""
    process, folder = int(sys.argv[1]), sys.argv[2]
    if sys.stdin.buffer.read() != b"ended":
        end_groups(groups_of(process))
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
