"""The tests that hold a device's results against the processor's, where pytest is installed."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .task import Task

REPOSITORY = Path(__file__).resolve().parents[2]
# In the order of their worth. tests/conftest.py needs Flower, which these do not.
FILES = (
    "tests/client_app/test_captured_training.py",
    "tests/test_on_device.py",
    "tests/foundation/data/test_batches.py",
)


@dataclass(frozen=True)
class Tests:
    """How they ended."""

    counts: dict[str, int]
    """By outcome: passed, failed, skipped, error."""
    output: str
    """What pytest said at last."""
    stage: str = "tests"

    def report(self) -> str:
        found = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        return f"tests: {found or self.output}"

    def record(self) -> dict[str, Any]:
        return asdict(self)


def run_tests(task: Task) -> Tests:
    """Run the tests on the task's device.

    Raises
    ------
    ModuleNotFoundError
        If pytest is not installed.
    RuntimeError
        If it says of no test how it ended, or is not done in time; with what it said so far.
    """
    if importlib.util.find_spec("pytest") is None:
        raise ModuleNotFoundError("pytest is not installed: pip install pytest")
    command = [sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-v"]
    try:
        done = subprocess.run(
            [*command, *FILES],
            cwd=REPOSITORY,
            env={**os.environ, "FEDF2DG_TEST_DEVICE": task.device},
            capture_output=True,
            text=True,
            check=False,
            timeout=0.9 * task.seconds,  # it must not outlive the part
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        text = said if isinstance(said, str) else said.decode(errors="replace")
        raise RuntimeError(f"the tests took longer than {late.timeout:.0f} s: {text}") from None
    last = (done.stdout.splitlines() or [""])[-1]
    counts = {word: int(number) for number, word in _OUTCOME.findall(last)}
    if not counts:
        raise RuntimeError(f"pytest did not come to its end: {(done.stdout + done.stderr)[-3000:]}")
    return Tests(counts, done.stdout[-4000:] if done.returncode else "")


_OUTCOME = re.compile(r"(\d+) (passed|failed|skipped|error)")
