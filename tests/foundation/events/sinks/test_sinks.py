"""The same numbers and pictures reach every sink, and none of them can end a run."""

import csv
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from fedf2dg.report.live import pictures
from foundation import ConfigurationError, events
from foundation.events.family import RunOpened
from foundation.events.reading import from_json, read_run
from foundation.events.sinks import Sink, require_sinks
from foundation.events.sinks.relay import Relay
from foundation.members import SINKS
from foundation.settings.configuration import RunConfiguration
from tests.made_up_runs import events_in, write_run


class Memory:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, int, dict[str, float]]] = []
        self.pictures: dict[tuple[str, int], bytes] = {}
        self.closed = False

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        self.got.append((group, step, dict(values)))

    def picture(self, name: str, step: int, png: bytes) -> None:
        self.pictures[name, step] = png

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Return what the sink "memory" keeps."""
    return kept_as("memory", Memory(), monkeypatch)


def kept_as(name: str, sink: Memory, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Let a run name a sink of one's own, such as ``memory:sink``."""
    module = ModuleType(name)
    module.__file__ = f"{name}.py"
    module.sink = Sink(name, lambda directory, configuration: sink)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return sink


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", rounds=4, epochs=3, competition_rounds=1)


def opened(run: Path, *names: str) -> Relay:
    relay = Relay(pictures)
    relay(RunOpened(run, RunConfiguration(seed=3, sinks=",".join(names)), ()))
    return relay


def told(run: Path, *names: str) -> None:
    relay = opened(run, *names)
    for event in read_run(run).events:
        relay(event)
    relay.close()


def test_every_measurement_arrives_on_the_axis_it_belongs_to(memory: Memory, run: Path) -> None:
    told(run, "memory:sink")
    events = events_in(run / "metrics.jsonl")
    rounds = [e for e in events if e["event"] == "round" and e["phase"] == "federated"]
    curve = {step: v["accuracy"] for group, step, v in memory.got if group == "federated"}
    assert curve == {e["round"]: e["accuracy"] for e in rounds}
    epochs = [e for e in events if e["event"] == "distillation" and not e["competition_round"]]
    curve = {step: v["accuracy"] for group, step, v in memory.got if group == "distillation"}
    assert curve == {e["epoch"]: e["accuracy"] for e in epochs}
    stages = {step: v for group, step, v in memory.got if group == "stages"}
    assert [next(iter(stages[step])) for step in range(3)] == [
        "federated accuracy",
        "distilled accuracy",
        "competed accuracy",
    ]
    assert memory.closed


def test_generated_images_arrive_as_pictures_once(memory: Memory, run: Path) -> None:
    told(run, "memory:sink")
    assert set(memory.pictures) == {("common samples", 0), ("hard samples", 1)}
    for png in memory.pictures.values():
        assert min(Image.open(io.BytesIO(png)).size) > 100


def test_each_clients_accuracy_arrives_by_its_name(memory: Memory, tmp_path: Path) -> None:
    relay = opened(tmp_path, "memory:sink")
    clients = [{"name": "north", "accuracy": 0.5}, {"name": "south", "accuracy": None}]
    relay(
        from_json(
            {
                "event": "evaluation",
                "stage": "federated",
                "on_clients": {"images": 9, "clients": clients},
            }
        )
    )
    judged = [{"client": 3, "before": 0.5, "stage": 0.4, "kept": 0.6}]
    relay(from_json({"event": "judgement", "stage": "distilled", "gain": 0.1, "clients": judged}))
    assert ("clients", 0, {"north": 0.5}) in memory.got
    assert ("clients, model kept", 1, {"3": 0.6}) in memory.got
    assert ("stages", 1, {"distilled gain": 0.1}) in memory.got


def test_numbers_that_are_none_are_left_out(memory: Memory, tmp_path: Path) -> None:
    relay = opened(tmp_path, "memory:sink")
    relay(
        from_json(
            {
                "event": "round",
                "phase": "federated",
                "round": 1,
                "accuracy": None,
                "failures": [{"client": 1}],
            }
        )
    )
    assert memory.got == [("federated", 1, {"dropped": 1})]


def test_a_sink_that_fails_gets_nothing_more_and_the_others_all(
    memory: Memory, run: Path, monkeypatch: pytest.MonkeyPatch, app_log: pytest.LogCaptureFixture
) -> None:
    class Broken(Memory):
        def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
            super().numbers(group, step, values)
            raise ConnectionError("the server is gone")

    broken = kept_as("broken", Broken(), monkeypatch)
    told(run, "broken:sink", "memory:sink")
    assert len(broken.got) == 1 and len(memory.got) > 10
    assert (
        app_log.text.count("sink broken:sink failed and gets nothing more: the server is gone") == 1
    )


def test_a_sink_that_cannot_be_opened_ends_nothing(
    run: Path, memory: Memory, app_log: pytest.LogCaptureFixture
) -> None:
    told(run, "no_such_module:sink", "memory:sink")
    assert memory.got and "sink no_such_module:sink failed" in app_log.text


def test_what_is_missing_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown sink 'cvs'\. Did you mean 'csv'"):
        require_sinks(["cvs"])
    monkeypatch.setattr(events.sinks, "find_spec", lambda name: None)
    for name in {*SINKS.ours} - {"csv"}:
        with pytest.raises(ConfigurationError, match=f"needs the library {name}: pip"):
            require_sinks([name])
    require_sinks(["csv"])


# Each place.


def test_csv_holds_every_number(run: Path, memory: Memory) -> None:
    told(run, "csv", "memory:sink")
    told(run, "csv")  # a resumed run tells all again
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [(g, str(s), n, str(v)) for g, s, values in memory.got for n, v in values.items()]
    assert [tuple(row.values()) for row in rows] == expected


def test_tensorboard_reads_back_what_was_told(run: Path, memory: Memory) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told(run, "tensorboard", "memory:sink")
    told(run, "tensorboard")
    found = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "images": 0})
    found.Reload()
    curve = {e.step: e.value for e in found.Scalars("federated/accuracy")}
    told_curve = {s: v["accuracy"] for group, s, v in memory.got if group == "federated"}
    assert curve == pytest.approx(told_curve)
    (picture,) = found.Images("common samples")
    sent = Image.open(io.BytesIO(memory.pictures["common samples", 0]))
    assert (picture.width, picture.height) == sent.size


def test_weights_and_biases_gets_steps_of_each_group(
    run: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, Any]] = []
    calls: list[Any] = []
    wandb = ModuleType("wandb")
    wandb.init = lambda **named: SimpleNamespace(  # type: ignore[attr-defined]
        log=logged.append,
        define_metric=lambda name, step_metric: calls.append((name, step_metric)),
        finish=lambda: calls.append(("finished", named["name"])),
    )
    wandb.Image = lambda image, caption: (image.size, caption)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(events.sinks, "find_spec", lambda name: True)
    told(run, "wandb", "memory:sink")
    curve = {e["federated/step"]: e["federated/accuracy"] for e in logged if "federated/step" in e}
    assert curve == {s: v["accuracy"] for group, s, v in memory.got if group == "federated"}
    assert ("federated/*", "federated/step") in calls
    assert calls[-1] == ("finished", "run")
    assert {name for entry in logged for name in entry if name.endswith("samples")}


def test_mlflow_gets_names_that_it_permits(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    calls: list[Any] = []
    mlflow = ModuleType("mlflow")
    mlflow.start_run = lambda run_name: calls.append(run_name)  # type: ignore[attr-defined]
    mlflow.exceptions = SimpleNamespace(MlflowException=KeyError)  # type: ignore[attr-defined]

    def log_params(values: dict[str, Any]) -> None:
        calls.append(values)
        raise KeyError("seed was 2 and cannot be 3")

    mlflow.log_params = log_params  # type: ignore[attr-defined]
    mlflow.log_metrics = lambda values, step: logged.append((values, step))  # type: ignore[attr-defined]
    mlflow.end_run = lambda: calls.append("ended")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr(events.sinks, "find_spec", lambda name: True)
    relay = opened(tmp_path, "mlflow")
    clients = [{"name": "Köln: 1", "accuracy": 0.5}]
    relay(
        from_json(
            {
                "event": "evaluation",
                "stage": "federated",
                "on_clients": {"images": 9, "clients": clients},
            }
        )
    )
    relay.close()
    assert logged == [({"clients/K_ln_ 1": 0.5}, 0)]
    assert calls[0] == tmp_path.name and calls[1]["seed"] == 3 and calls[2:] == ["ended"]
