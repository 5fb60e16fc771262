"""End a process group when the process that started this one is gone, however it went.

A program of its own, of the standard library alone: ``guard.py GROUP FOLDER`` waits for the end of
its standard input, which the starting process holds open and the system closes for it even after a
SIGKILL, and then ends the group and removes the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

_SECONDS = 10.0


def end_group(group: int, seconds: float = _SECONDS) -> None:
    """Ask all processes of a group to end; those that are left afterwards are killed."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            time.sleep(0.1)
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Wait, then end the group."""
    group, folder = int(sys.argv[1]), sys.argv[2]
    if sys.stdin.buffer.read() != b"ended":
        end_group(group)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
