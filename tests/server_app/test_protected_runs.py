"""Whole runs with noised label counts, and with a model that stops making sense."""

import math
import time
from dataclasses import replace

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
    from server_app.measuring import Measuring
    from server_app.rounds import DivergedModel

    measure = Measuring.__call__
    calls = []

    def broken(measuring, state):
        calls.append(1)
        measured = measure(measuring, state)
        return (replace(measured[0], loss=math.nan),) if len(calls) == 2 else measured

    monkeypatch.setattr(Measuring, "__call__", broken)
    with pytest.raises(DivergedModel, match=r"round 2: .*resume-from"):
        tiny_run("run", stages="train")
    assert result_in("run").steps() == ["0001-train-0001"]
    monkeypatch.undo()
    again = tiny_run("run", stages="train", resume_from=str(result_in("run").directory))
    assert len(again.events("round")) == 3


def test_finite_updates_whose_sum_overflows_stop_the_run_with_advice(tiny_run, monkeypatch) -> None:
    from server_app.rounds import DivergedModel
    from strategies import FederatedStrategy

    finish = FederatedStrategy.finish

    def overflown(strategy, server_round, gathered):
        combined = finish(strategy, server_round, gathered)
        name = next(name for name, value in combined.items() if value.is_floating_point())
        return {**combined, name: combined[name] * math.inf}

    monkeypatch.setattr(FederatedStrategy, "finish", overflown)
    with pytest.raises(DivergedModel) as stopped:
        tiny_run("run", stages="train")
    for part in ("round 1", "infinite values", "learning-rate", "resume-from", "clip-update-norm"):
        assert part in str(stopped.value)


def test_a_run_ends_well_without_its_report_and_pictures(tiny_run, monkeypatch, app_log) -> None:
    import fedf2dg.report.live as pages

    def broken(*given, **named):
        raise RuntimeError("no font")

    monkeypatch.setattr(pages, "write_report", broken)
    monkeypatch.setattr(pages, "pseudo_grid", broken)
    run = tiny_run("run", stages="train,generate", num_server_rounds=1)
    assert run.summary()["status"] == "completed"
    for what in ("the report", "the picture of generated images"):
        assert f"{what} could not be made" in app_log.text and "no font" in app_log.text


def test_a_run_that_another_process_works_on_is_not_copied_from(
    tiny_run, tmp_path, monkeypatch, caplog
) -> None:
    from foundation.settings.configuration import ConfigurationError
    from server_app import run_directory
    from server_app.run_directory import reserved

    monkeypatch.setattr(run_directory, "_COPYING_SECONDS", 0.2)
    caplog.set_level("INFO", "flwr.fedf2dg")
    first = tiny_run("first", stages="train", num_server_rounds=1)
    keys = {"stages": "train", "num_server_rounds": 2, "resume_from": str(first.directory)}
    with reserved(first.directory), pytest.raises(ConfigurationError, match=r"working on.*first"):
        tiny_run("second", **keys)
    assert "waiting for it" in caplog.text
    assert not list((tmp_path / "second" / "checkpoints").iterdir())
    assert len(tiny_run("second", **keys).events("round")) == 2


def test_runs_that_start_from_the_same_one_at_once_all_do(tiny_run, tmp_path, monkeypatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from server_app import preflight, run_directory

    first = tiny_run("first", stages="train", num_server_rounds=1)
    copied, copying = run_directory._copy_run, []

    def slowly(source, directory) -> None:
        copying.append(directory)
        assert copying == [directory]  # who else starts from that run waits
        time.sleep(0.3)
        copied(source, directory)
        copying.remove(directory)

    monkeypatch.setattr(run_directory, "_copy_run", slowly)
    configurations = [
        preflight.parse({"resume-from": str(first.directory), "output-dir": str(tmp_path / name)})
        for name in ("second", "third", "fourth")
    ]
    with ThreadPoolExecutor(3) as pool:
        directories = list(pool.map(run_directory.prepare, configurations))
    names = [{p.name for p in (d / "checkpoints").iterdir()} for d in directories]
    assert names[0] and names[0] == names[1] == names[2]


def test_the_example_sites_are_clients_of_a_simulation(tmp_path) -> None:
    from fedf2dg.starters import write_example_sites
    from foundation.data import PartitionError
    from foundation.settings.configuration import ConfigurationError
    from server_app import preflight

    write_example_sites(tmp_path)
    data = {"dataset": "folder", "data-dir": str(tmp_path)}
    configuration = preflight.parse({**data, "partition": "folders"})
    assert configuration.num_clients == 3
    preflight.check(configuration, simulated=True)
    for keys in ({}, {"partition": "folders", "num-clients": 4}):
        with pytest.raises((ConfigurationError, PartitionError), match=r"folders|num-clients=3"):
            preflight.check(preflight.parse({**data, **keys}), simulated=True)


def test_a_run_of_sites_keeps_their_names(tiny_run, tmp_path) -> None:
    from fedf2dg.starters import write_example_sites

    write_example_sites(tmp_path / "sites")
    run = tiny_run(
        "run",
        dataset="folder",
        data_dir=str(tmp_path / "sites"),
        partition="folders",
        num_clients=3,
        train_samples=0,
        stages="train",
        num_server_rounds=1,
    )
    (event,) = run.events("clients")
    assert event["names"] == ["site-1", "site-2", "site-3"]
    assert [bool(count) for count in event["label_counts"][1]] == [False] * 4 + [True] * 4 + [
        False
    ] * 2
