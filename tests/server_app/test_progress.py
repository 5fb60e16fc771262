"""Progress is a log line, not too often, never more than ten seconds apart, and one at the end."""

from __future__ import annotations

import re

import pytest

import server_app.progress as module
from server_app.progress import ProgressLog


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def lines(app_log):
    return [record.getMessage() for record in app_log.records]


def test_says_done_total_rate_and_time_left(clock, app_log):
    progress = ProgressLog("inversion", "images")
    for done in range(0, 401):
        progress(done, 400)
        clock[0] += 0.1
    found = lines(app_log)
    assert found[-1].startswith("inversion: 400/400 images (100 %)")
    assert "left" not in found[-1]
    done, rate, left = re.search(
        r"(\d+)/400 images .*?, (\d+)/s, .* (\d+) s left", found[2]
    ).groups()
    assert rate == "10"
    assert int(left) == pytest.approx((400 - int(done)) / 10, abs=1)


def test_a_line_at_least_every_ten_seconds_and_not_for_every_step(clock, app_log):
    progress = ProgressLog("distillation", "epochs")
    times = []
    for done in range(1, 101):
        clock[0] += 1.0
        before = len(app_log.records)
        progress(done, 100)
        if len(app_log.records) > before:
            times.append(clock[0])
    gaps = [later - earlier for earlier, later in zip([1000.0, *times], times, strict=False)]
    assert max(gaps) <= 10.0
    assert 5 <= len(times) <= 25


def test_nothing_to_do_is_done_at_once(clock, app_log):
    ProgressLog("nothing", "images")(0, 0)
    assert lines(app_log) == ["nothing: 0/0 images (0 %), 0/s, 0.0 s"]


def test_a_run_says_every_rounds_accuracy_and_seconds(tiny_run, app_log):
    run = tiny_run("run", strategy="fedavg", num_server_rounds=2)
    told = re.findall(r"round (\d): accuracy ([\d.]+) %.* ([\d.]+) s", app_log.text)
    accuracies = [event["accuracy"] for event in run.events("round")]
    assert [int(number) for number, _, _ in told] == [1, 2, 3]
    assert [float(a) for _, a, _ in told] == pytest.approx([100 * a for a in accuracies], abs=0.01)
    assert "inversion of common samples: " in app_log.text
    assert "inversion of hard samples: " in app_log.text
    assert re.search(r"distillation: (\d+)/\1 images", app_log.text)
