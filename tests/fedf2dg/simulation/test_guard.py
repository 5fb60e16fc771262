"""Nothing of a run goes on when the command that made it was killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedf2dg.simulation import guard

# Starts a process in a session of its own, as a SuperLink is, and its guard; tells both ids.
_PARENT = """
import subprocess, sys, time
ward = subprocess.Popen([sys.executable, "-c", sys.argv[3]], start_new_session=True)
guard = subprocess.Popen(
    [sys.executable, "-I", sys.argv[1], str(ward.pid), sys.argv[2]],
    stdin=subprocess.PIPE,
    start_new_session=True,
)
time.sleep(1)
print(ward.pid, flush=True)
if len(sys.argv) > 4:
    guard.communicate(b"ended")
time.sleep(60)
"""


def start(folder: Path, ward: str, *more: str) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, guard.__file__, str(folder), ward, *more],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("deaf", [False, True])
def test_a_process_and_its_descendants_end_with_who_was_to_end_it(
    tmp_path: Path, deaf: bool
) -> None:
    folder, note = tmp_path / "superlink", tmp_path / "descendant"
    folder.mkdir()
    # A descendant in a session of its own, as Flower's are.
    below = "import time; time.sleep(60)"
    if deaf:
        below = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {below}"
    ward = (
        "import pathlib, subprocess, sys, time; "
        f"child = subprocess.Popen([sys.executable, '-c', '{below}'], start_new_session=True); "
        f"pathlib.Path('{note}').write_text(str(child.pid)); time.sleep(60)"
    )
    parent, process = start(folder, ward)
    processes = [process, int(note.read_text())]
    assert all(map(alive, processes))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 40
    while (any(map(alive, processes)) or folder.exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, processes)) and not folder.exists()


def test_groups_are_listed_without_proc_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        assert guard.groups_of(os.getpid()) == {other.pid}  # the child is of this one's group
        if shutil.which("ps"):
            monkeypatch.setattr(Path, "exists", lambda path: False)
            assert guard.groups_of(os.getpid()) == {other.pid}
    finally:
        child.kill()
        other.kill()
        child.wait()
        other.wait()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_what_was_ended_in_order_is_left_alone(tmp_path: Path) -> None:
    parent, process = start(tmp_path, "import time; time.sleep(60)", "in order")
    try:
        time.sleep(2)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        time.sleep(2)
        assert alive(process) and tmp_path.is_dir()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
