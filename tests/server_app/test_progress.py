"""Progress is a log line, not too often, never more than ten seconds apart, and one at the end."""

import re

import pytest

import foundation.progress as module
from foundation import ProgressLog


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


def test_those_who_watch_the_directory_see_the_latest_line_while_there_is_work(clock, tmp_path):
    file = tmp_path / "progress.txt"
    progress = ProgressLog("inversion", "images", file)
    for done in (1, 2):
        clock[0] += 6.0
        progress(done, 3)
        assert file.read_text("utf-8").startswith(f"inversion: {done}/3 images")
    progress(3, 3)
    assert not file.exists()


def test_brief_work_of_one_of_many_is_passed_over(clock, app_log):
    for seconds in (1.0, 6.0):
        progress = ProgressLog("inversion", "images", brief=True)
        for done in (1, 2):
            clock[0] += seconds
            progress(done, 2)
    assert [line.split(" (")[0] for line in lines(app_log)] == [
        "inversion: 1/2 images",
        "inversion: 2/2 images",
    ]


def test_nothing_to_do_is_done_at_once(clock, app_log):
    ProgressLog("nothing", "images")(0, 0)
    assert lines(app_log) == ["nothing: 0/0 images (0 %), 0.0 s"]


def test_a_run_says_every_rounds_accuracy_and_seconds(tiny_run, app_log):
    run = tiny_run("run", strategy="fedavg", num_server_rounds=2)
    told = re.findall(r"round (\d): accuracy ([\d.]+) %.* ([\d.]+) s", app_log.text)
    accuracies = [event["accuracy"] for event in run.events("round")]
    assert [int(number) for number, _, _ in told] == [1, 2, 3]
    assert [float(a) for _, a, _ in told] == pytest.approx([100 * a for a in accuracies], abs=0.01)
    assert " 1 of 2 rounds, " in app_log.text and app_log.text.count(", 2 of 2 rounds") == 1
    assert not (run.directory / "progress.txt").exists()
    assert "inversion of common samples: " in app_log.text
    assert "inversion of hard samples: " in app_log.text
    assert re.search(r"distillation: (\d+)/\1 images", app_log.text)
