"""A run tells its sinks all that it measures, and tells it again when it is resumed."""

import csv
from pathlib import Path

import pytest

from foundation import ConfigurationError
from server_app import preflight


def table(directory: Path) -> list[list[str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    return [row for row in rows if row[2] != "seconds"]


def test_a_resumed_run_leaves_the_table_of_an_uninterrupted_one(tiny_run, tmp_path) -> None:
    whole = tiny_run("whole", sinks="csv")
    part = tiny_run("part", sinks="csv", stages="train")
    rest = "generate,distil,compete"
    resumed = tiny_run("part", sinks="csv", stages=rest, resume_from=str(part.directory))
    groups = {row[0] for row in table(whole.directory)}
    assert {"federated", "distillation", "stages", "common samples"} <= groups
    assert {g for g in groups if g.startswith("clients")}
    assert table(resumed.directory) == table(whole.directory)


def test_a_missing_library_stops_before_any_work(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("foundation.events.sinks.find_spec", lambda name: None)
    configuration = preflight.parse({"sinks": "csv,wandb", "output-dir": str(tmp_path / "run")})
    with pytest.raises(ConfigurationError, match="pip install wandb"):
        preflight.check(configuration, simulated=True)
    assert not (tmp_path / "run").exists()
