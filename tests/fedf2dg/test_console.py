"""However a command ends, its user reads a line, and no traceback of somebody else's fault."""

import errno
import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedf2dg.console import FAILED, Printer, exit_status, logged_to, plain_warnings
from foundation import ExpectedError, only_warned

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "")]
)
def test_a_disk_that_is_full_or_closed_is_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    monkeypatch.setattr("fedf2dg.console._forget_output", lambda: None)

    def work() -> int:
        raise OSError(number, os.strerror(number), "/data/report.html")

    assert exit_status(work) == FAILED
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: /data: {os.strerror(number)}") and advice in line


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_is_no_success() -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fedf2dg", "keys"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == FAILED
    (line,) = done.stderr.splitlines()
    assert "error: No space left on device" in line


class Gone(io.StringIO):
    """A stream that takes one line."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        if len(self.getvalue().splitlines()) > 1:
            raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the log ends here"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
    ],
)
def test_a_run_goes_on_without_its_log(
    capsys: pytest.CaptureFixture[str], error: OSError, said: str
) -> None:
    """One engine logs, the other prints what Flower's log says."""
    stream = Gone(error)
    with logged_to(stream):
        for number in range(5):
            logging.getLogger("flwr.fedf2dg").info("round %d", number)
    show = Printer(Gone(error))
    for number in range(5):
        show(f"round {number}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 * bool(said) and said in "".join(lines)
    assert stream.getvalue().splitlines() == ["round 0", "round 1"]


def test_warnings_are_plain_before_and_while_a_run_logs_and_come_once() -> None:
    import flwr.common.logger  # noqa: F401  (whose handler colours its lines)

    early, run = io.StringIO(), io.StringIO()
    with plain_warnings(early):
        logging.getLogger("flwr.fedf2dg.data").warning("a class is empty")
        with logged_to(run):
            logging.getLogger("flwr.fedf2dg").warning("a client is gone")
            logging.getLogger("flwr").warning("of Flower")
        logging.getLogger("flwr.fedf2dg").info("done")
    assert early.getvalue().splitlines() == ["WARNING: a class is empty", "done"]
    assert run.getvalue().splitlines() == ["WARNING: a client is gone", "WARNING: of Flower"]


@pytest.mark.parametrize("level", ["", "debug"])
def test_the_traceback_of_what_was_only_warned_of_is_there_for_who_debugs(monkeypatch, level):
    monkeypatch.setenv("FLWR_LOG_LEVEL", level)
    output = io.StringIO()
    with plain_warnings(output), only_warned("the picture"):
        raise ArithmeticError("in the middle")
    said = output.getvalue()
    assert f"WARNING: the picture could not be made ({__file__}, line " in said
    assert "ArithmeticError: in the middle): all else goes on" in said
    assert ("Traceback (most recent call last)" in said) == (level == "debug")
    with plain_warnings(output), only_warned("the card"):
        raise ExpectedError("no such file")
    assert "the card could not be made (no such file)" in output.getvalue()
