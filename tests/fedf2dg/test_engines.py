"""Both engines run the same app: every strategy in this process, and the real thing through Ray."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedf2dg import cli
from fedf2dg.starters import write_folders
from foundation.data import DataSet

TINY = {
    "num-clients": 3,
    "train-samples": 90,
    "dirichlet-alpha": 1.0,
    "num-server-rounds": 2,
    "local-epochs": 1,
    "generation.images-per-client": 4,
    "generation.iterations": 3,
    "distillation.epochs": 2,
}


def simulate(engine: str, output: Path, **keys: Any) -> int:
    settings = [f"{name}={value}" for name, value in keys.items()]
    return cli.main(["simulate", "--engine", engine, "--output", str(output), *settings])


def events(directory: Path, kind: str) -> list[dict[str, Any]]:
    lines = (directory / "metrics.jsonl").read_text("utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def summary(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "summary.json").read_text("utf-8"))


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "scaffold", "fednova", "moon"])
def test_local_engine_carries_out_the_whole_method_under_every_strategy(tmp_path, strategy):
    run = tmp_path / "run"
    assert simulate("local", run, strategy=strategy, **TINY) == 0
    found = summary(run)
    assert (found["status"], found["strategy"], found["clients"]) == ("completed", strategy, 3)
    for stage in ("federated", "distilled", "competed"):
        assert 0.0 <= found["accuracy"][stage] <= 1.0
        assert found["best_on_test"][stage] >= found["accuracy"][stage]
    for stage in ("federated", "generation", "distillation", "competition", "total"):
        assert found["seconds"][stage] > 0
    assert found["generation"]["images"] == 2 * 3 * 4  # common and hard, 4 each of 3 clients
    assert [event["phase"] for event in events(run, "round")] == ["federated"] * 2 + ["competition"]
    assert [event["clients"] for event in events(run, "round")] == [[0, 1, 2]] * 3
    assert events(run, "generation")[0]["kind"] == "common"
    assert events(run, "generation")[1]["kind"] == "hard"
    assert [event["stage"] for event in events(run, "evaluation")] == [
        "federated",
        "distilled",
        "competed",
    ]
    for event in events(run, "evaluation"):
        rows = event["confusion"]
        assert sum(map(sum, rows)) == 359  # the embedded data set's test images
        assert event["accuracy"] == sum(rows[k][k] for k in range(10)) / 359
    (clients,) = events(run, "clients")
    assert sum(clients["num_examples"]) == 84  # of 90; six are held out
    assert [sum(row) for row in clients["label_counts"]] == clients["num_examples"]


@pytest.mark.usefixtures("drawn_reports")
def test_a_run_draws_its_report_and_its_pseudo_images(tmp_path):
    run = tmp_path / "run"
    keys = {**TINY, "strategy": "fedavg", "stages": "train,generate", "num-server-rounds": 1}
    assert simulate("local", run, **keys) == 0
    assert (run / "report.html").stat().st_size > 10_000
    assert (run / "pseudo_data" / "grid.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("strategy", ["local", "centralized"])
def test_local_engine_carries_out_the_baselines(tmp_path, strategy):
    run = tmp_path / "run"
    assert simulate("local", run, strategy=strategy, **TINY) == 0
    found = summary(run)
    assert 0.0 < found["accuracy"]["federated"] <= 1.0
    assert found["accuracy"]["distilled"] is found["accuracy"]["competed"] is None
    clients = [0] if strategy == "centralized" else [0, 1, 2]
    assert [event["clients"] for event in events(run, "round")] == [clients] * 2


def test_same_seed_same_run_another_seed_another(tmp_path):
    one_round = {**TINY, "num-server-rounds": 1}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        keys = {**one_round, "strategy": "scaffold", "seed": seed, "stages": "train"}
        assert simulate("local", tmp_path / name, **keys) == 0
    losses = {n: [e["loss"] for e in events(tmp_path / n, "round")] for n in ("a", "b", "c")}
    assert losses["a"] == losses["b"] != losses["c"]


def test_processes_change_nothing_but_the_time(tmp_path):
    keys = {**TINY, "strategy": "moon", "fraction-train": 0.67}
    for name, processes in (("alone", 1), ("shared", 2)):
        assert simulate("local", tmp_path / name, processes=processes, **keys) == 0
    alone, shared = (
        [
            {name: value for name, value in event.items() if name not in ("seconds", "time")}
            for kind in ("clients", "round", "generation", "distillation", "evaluation")
            for event in events(tmp_path / run, kind)
        ]
        for run in ("alone", "shared")
    )
    assert alone == shared


def test_a_client_that_raises_or_takes_its_process_along_is_one_client_lost():
    from flwr.app import Message, RecordDict

    from fedf2dg.simulation.local_grid import ParallelGrid
    from foundation.processes import Workers

    with Workers(2) as workers:
        grid = ParallelGrid(fragile_app, 4, workers)
        assert grid.always_answers  # a round's end does not depend on this machine's speed
        nodes = list(grid.get_node_ids())
        replies = grid.send_and_receive(
            [Message(RecordDict(), node, message_type="query") for node in nodes], timeout=60
        )
        again = grid.send_and_receive([Message(RecordDict(), nodes[0], "query")], timeout=60)
    reasons = {
        reply.metadata.src_node_id: reply.error.reason if reply.has_error() else ""
        for reply in replies
    }
    assert list(map(reasons.get, nodes)) == [
        "",
        "ArithmeticError: client 1",
        "ProcessDied: its process ended (out of memory?)",
        "",
    ]
    (reply,) = again
    # What a client remembers is its own, whichever process it runs in.
    assert reply.content.config_records["memory"]["times"] == 2


def test_a_client_that_hangs_is_lost_after_round_timeout_and_named():
    from flwr.app import Message, RecordDict

    from fedf2dg.simulation.local_grid import ParallelGrid
    from foundation.messages.exchange import exchange
    from foundation.processes import Workers

    with Workers(2) as workers:
        grid = ParallelGrid(hanging_app, 3, workers, timeout=8.0)
        nodes = list(grid.get_node_ids())
        messages = (Message(RecordDict(), node, message_type="query") for node in nodes)
        replies = {
            reply.metadata.src_node_id: reply.error.reason if reply.has_error() else ""
            for reply in exchange(grid, messages, timeout=8.0)
        }
    assert replies[nodes[0]] == replies[nodes[2]] == ""
    assert replies[nodes[1]] == "TaskTimeout: no answer within 8 s: its process was ended"


def hanging_app():
    import time

    from flwr.app import Message, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.query()
    def query(message, context):
        if context.node_config["partition-id"] == 1:
            time.sleep(3600)
        return Message(RecordDict(), reply_to=message)

    return app


def test_flower_starts_no_more_actors_than_there_are_clients(monkeypatch):
    from fedf2dg.simulation import flower_engine

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(flower_engine, "cores", lambda: 64)
    assert "init-args-num-cpus=3" in flower_engine.federation_settings(3)
    assert "init-args-num-cpus=64" in flower_engine.federation_settings(1000)
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # a cluster's processors are its own
    assert "num-cpus=3" not in flower_engine.federation_settings(3)


def fragile_app():
    import os
    import signal

    from flwr.app import ConfigRecord, Message, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.query()
    def query(message, context):
        client = context.node_config["partition-id"]
        if client == 1:
            raise ArithmeticError("client 1")
        if client == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        memory = context.state.config_records.get("memory", ConfigRecord({"times": 0}))
        memory["times"] = memory["times"] + 1
        context.state.config_records["memory"] = memory
        return Message(RecordDict({"memory": memory}), reply_to=message)

    return app


def test_what_the_run_learned_is_more_than_chance(tmp_path):
    """Ten classes: 10 % is chance. Kind data and a few rounds must lead far above it."""
    keys = {
        **TINY,
        "train-samples": 600,
        "dirichlet-alpha": 100.0,
        "num-server-rounds": 5,
        "local-epochs": 2,
        "learning-rate": 0.05,
        "strategy": "fedavg",
        "stages": "train",
    }
    assert simulate("local", tmp_path / "run", **keys) == 0
    assert summary(tmp_path / "run")["accuracy"]["federated"] > 0.6


SMALL = {
    "num-clients": 4,
    "dirichlet-alpha": 0.5,
    "num-server-rounds": 3,
    "local-epochs": 2,
    "fraction-train": 0.5,
    "generation.images-per-client": 16,
    "generation.iterations": 20,
    "distillation.epochs": 5,
    "strategy": "scaffold",
}


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_flower_engine_gives_what_the_local_engine_gives(tmp_path, capfd):
    """Same partition, same sampled clients, same bits drawn; only the order of sums may differ.

    The server has no test set: the clients measure and judge.
    """
    write_folders(tmp_path / "images" / "train", DataSet("digits").load("train"), "L")
    keys = {**SMALL, "dataset": "folder", "data-dir": str(tmp_path / "images")}
    assert simulate("flower", tmp_path / "flower", **keys) == 0
    streamed = capfd.readouterr().out
    assert simulate("local", tmp_path / "local", **keys) == 0
    runs = {name: tmp_path / name for name in ("flower", "local")}
    rounds = {name: events(run, "round") for name, run in runs.items()}
    sampled = {name: [event["clients"] for event in found] for name, found in rounds.items()}
    assert sampled["flower"] == sampled["local"]
    assert [len(clients) for clients in sampled["flower"]] == [2, 2, 2, 2]
    assert len(set(map(tuple, sampled["flower"]))) > 1
    clients = {name: events(run, "clients")[0] for name, run in runs.items()}
    assert clients["flower"]["label_counts"] == clients["local"]["label_counts"]
    assert clients["flower"]["num_examples"] == clients["local"]["num_examples"]
    # Early rounds may amplify the last bit of a sum; the result of the run may not.
    for flower, local in zip(rounds["flower"], rounds["local"], strict=True):
        assert flower["accuracy"] == pytest.approx(local["accuracy"], abs=0.1)
        assert flower["train_loss"] == pytest.approx(local["train_loss"], rel=0.1)
    summaries = {name: summary(run) for name, run in runs.items()}
    assert summaries["flower"]["measured"] == summaries["local"]["measured"]
    held_out = summaries["flower"]["judged"]["images"]
    for stage in ("federated", "distilled", "competed"):
        assert summaries["flower"]["measured"][stage] == {"by": "clients", "images": held_out}
        flower, local = (summaries[name]["accuracy"][stage] for name in ("flower", "local"))
        # On a tenth of 1,438 images, seven of which may be judged differently.
        assert flower == pytest.approx(local, abs=0.05)
    assert 120 < held_out < 150
    names = {name: {path.name for path in run.iterdir()} for name, run in runs.items()}
    assert names["local"] <= names["flower"]
    assert "round 1: accuracy" in streamed
    assert streamed.splitlines()[-1].endswith(str(runs["flower"] / "report.html"))
    assert "\x1b[" not in streamed


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_run_that_fails_in_flower_exits_with_its_reason(tmp_path, capfd):
    """A step size that sends every client to infinity: all are dropped, and the run says so."""
    keys = {**SMALL, "stages": "train", "learning-rate": 1e30, "num-clients": 2}
    assert simulate("flower", tmp_path / "run", **keys) == 1
    captured = capfd.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("error: ")
    assert "round 1: 0 of 1 clients returned a valid result" in line
    assert "NaN" in line
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_the_bundle_of_a_checkout_runs(tmp_path):
    """As ``flwr run .`` has it: server and clients import all rooms from the bundle."""
    import io

    from fedf2dg.simulation.flower_engine import run_through_flower

    keys = {"num-clients": 2, "num-server-rounds": 1, "local-epochs": 1, "stages": "train"}
    root, output = Path(__file__).resolve().parents[2], tmp_path / "run"
    keys = {**keys, "train-samples": 60, "dirichlet-alpha": 1.0, "output-dir": str(output)}
    run_through_flower(keys, 2, io.StringIO(), tmp_path / "flower.log", app=root)
    assert summary(output)["status"] == "completed"


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_another_number_of_nodes_than_clients_names_the_command(tmp_path):
    import io

    from fedf2dg.simulation.flower_engine import FlowerRunError, run_through_flower
    from server_app import preflight

    configuration = preflight.parse({**SMALL, "output-dir": str(tmp_path / "run")})
    with pytest.raises(FlowerRunError) as error:
        run_through_flower(configuration.flat(), 3, io.StringIO(), tmp_path / "flower.log")
    text = str(error.value)
    assert "3 nodes, but num-clients = 4" in text
    assert '--run-config "num-clients=3"' in text
    assert "num-supernodes=4" in text


def test_local_engine_needs_neither_ray_nor_a_server(tmp_path):
    """Ray is imported by Flower's simulation alone; the local engine must start without it."""
    import subprocess
    import sys

    root = Path(__file__).resolve().parents[2]
    keys = {**TINY, "stages": "train", "num-clients": 1, "num-server-rounds": 1, "processes": 1}
    settings = [f"{name}={value}" for name, value in keys.items()]
    code = (
        "import sys; sys.modules['ray'] = None; from fedf2dg import cli; "
        "status = cli.main(sys.argv[1:]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "simulate", "--engine", "local", "--output", "run", *settings],
        cwd=tmp_path,
        env={**__import__("os").environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").is_file()
