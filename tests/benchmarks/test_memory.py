"""The memory of a command counts everything it starts, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import PeakMemory

MEGABYTE = 2**20

# The command ends at once; what it started goes on in a session of its own.
COMMAND = """
import subprocess, sys
child = "import sys, time; held = bytearray({size}); time.sleep(1.5); print('done')"
process = subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="Linux only: needs /proc"
)


def _peak(size: int, *, marked: bool = True) -> int:
    with PeakMemory() as memory:
        environment = {**os.environ, **(memory.environment if marked else {})}
        # The grandchild holds the pipe: this returns when it has ended.
        command = [sys.executable, "-c", COMMAND.format(size=size)]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert done.stdout == b"done\n"
    return memory.bytes


def test_a_detached_grandchild_counts() -> None:
    small, large = _peak(1), _peak(300 * MEGABYTE)
    assert 290 * MEGABYTE < large - small < 310 * MEGABYTE


def test_a_process_without_the_mark_does_not() -> None:
    assert _peak(300 * MEGABYTE, marked=False) == 0
