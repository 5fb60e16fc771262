"""Whole runs with noised label counts, and with a model that stops making sense."""

from __future__ import annotations

import math

import pytest


def test_a_run_on_noised_counts_ends_and_the_server_never_sees_the_true_ones(tiny_run) -> None:
    run = tiny_run(
        "run",
        stages="train,generate",
        num_server_rounds=1,
        label_counts="noised",
        label_counts_noise=30.0,
    )
    event = run.events("clients")[0]
    sums = [sum(row) for row in event["label_counts"]]
    assert sums != event["num_examples"]
    assert run.summary()["status"] == "completed"


def test_a_diverged_model_stops_the_run_and_the_round_before_is_kept(
    tiny_run, result_in, monkeypatch
) -> None:
    from server_app.federation import DivergedModel, Federation

    measure = Federation._measure
    calls = []

    def broken(federation, state):
        calls.append(1)
        measured = measure(federation, state)
        return {**measured, "loss": math.nan} if len(calls) == 2 else measured

    monkeypatch.setattr(Federation, "_measure", broken)
    with pytest.raises(DivergedModel, match=r"round 2: .*resume-from"):
        tiny_run("run", stages="train")
    assert result_in("run").steps() == ["0001-train-0001"]
    monkeypatch.undo()
    again = tiny_run("run", stages="train", resume_from=str(result_in("run").directory))
    assert len(again.events("round")) == 3
