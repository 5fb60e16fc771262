"""The metrics file keeps whole events only, through kills, full disks and resumed runs."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from foundation.events.log import MetricsError, MetricsFile, json_value
from foundation.events.reading import read_run
from tests.made_up_runs import events_in


def test_events_are_readable_as_soon_as_they_are_appended(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "new folder" / "metrics.jsonl")
    metrics.append("round", round=1, accuracy=0.5)
    assert events_in(metrics.path) == [{"event": "round", "round": 1, "accuracy": 0.5}]
    metrics.append("end", status="completed")
    assert [event["event"] for event in events_in(metrics.path)] == ["round", "end"]


def test_each_event_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    really_write = os.write
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics:

        def record(descriptor: int, data: bytes) -> int:
            written.append(data)
            return really_write(descriptor, data)

        monkeypatch.setattr(os, "write", record)
        metrics.append("evaluation", confusion=[[1, 2], [3, 4]], note="two\nlines")
    assert len(written) == 1
    assert written[0].count(b"\n") == 1 and written[0].endswith(b"\n")


def test_values_without_json_become_null_and_arrays_become_lists(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics:
        metrics.append(
            "round",
            loss=float("nan"),
            accuracy=np.float32("inf"),
            counts=np.array([[1, 2]]),
            nested={"a": [float("-inf"), np.int64(3)], 4: (True, None)},
        )
    (event,) = events_in(tmp_path / "metrics.jsonl")
    assert event == {
        "event": "round",
        "loss": None,
        "accuracy": None,
        "counts": [[1, 2]],
        "nested": {"a": [None, 3], "4": [True, None]},
    }
    strict = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in strict and "Infinity" not in strict
    with pytest.raises(TypeError, match="object"):
        json_value(object())


def test_any_truncation_loses_the_last_line_at_most(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "whole.jsonl") as metrics:
        for number in range(3):
            metrics.append("round", round=number, reason="é\u2028 {")
    content = (tmp_path / "whole.jsonl").read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    cut = tmp_path / "cut.jsonl"
    for size in range(len(content) + 1):
        cut.write_bytes(content[:size])
        whole = sum(end <= size for end in ends)
        assert [event["round"] for event in events_in(cut)] == list(range(whole))
        with MetricsFile(cut) as metrics:
            metrics.append("resumed")
        assert [event["event"] for event in events_in(cut)] == ["round"] * whole + ["resumed"]


def test_a_killed_process_leaves_whole_events(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    program = (
        "import itertools, sys\n"
        "from foundation.events.log import MetricsFile\n"
        "metrics = MetricsFile(sys.argv[1])\n"
        "for n in itertools.count(): metrics.append('round', round=n, filling='x' * 5000)\n"
    )
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=root)
    try:
        while not path.exists() or path.stat().st_size < 200_000:
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    events = events_in(path)
    assert [event["round"] for event in events] == list(range(len(events)))
    assert len(events) >= 30


def test_a_full_disk_leaves_the_events_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_write = os.write
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics:
        metrics.append("round", round=1)
        with monkeypatch.context() as full:
            full.setattr(os, "write", lambda fd, data: really_write(fd, data[:7]))
            with pytest.raises(OSError, match="No space left"):
                metrics.append("round", round=2)
        metrics.append("round", round=3)
    assert [event["round"] for event in events_in(tmp_path / "metrics.jsonl")] == [1, 3]


def test_resuming_truncates_to_a_position(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path) as metrics:
        assert metrics.position() == 0
        metrics.append("round", round=1)
        position = metrics.position()
        assert position == path.stat().st_size
        metrics.append("round", round=2)
    with MetricsFile(path) as metrics:
        metrics.truncate(position)
        metrics.append("round", round=2, again=True)
        with pytest.raises(MetricsError, match="not the end of an event"):
            metrics.truncate(position + 1)
        with pytest.raises(MetricsError, match="another run"):
            metrics.truncate(10_000)
    assert [event.get("again") for event in events_in(path)] == [None, True]


def test_threads_do_not_mix_lines(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics:

        def write(writer: int) -> None:
            for number in range(50):
                metrics.append("line", writer=writer, number=number)

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = events_in(tmp_path / "metrics.jsonl")
    for writer in range(4):
        assert [e["number"] for e in events if e["writer"] == writer] == list(range(50))


@pytest.mark.parametrize("line", ["{broken", "[1]", "\x00\x00"])
def test_a_broken_line_in_the_middle_is_named_and_the_others_are_read(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"event": "start"}) + f"\n{line}\n" + '{"event":"end"}\n')
    told = read_run(tmp_path)
    assert [event.event for event in told.events] == ["start", "end"]
    assert len(told.problems) == 1 and "line 2 could not be read" in told.problems[0]


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.close()
    metrics.close()
