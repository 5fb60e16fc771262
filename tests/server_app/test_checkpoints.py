"""Checkpoints appear whole or not at all, and only those that are needed stay."""

import json

import pytest
import torch

import server_app.checkpoints as module
from foundation.models.client_store import ClientStore
from foundation.settings.configuration import RunConfiguration
from server_app.checkpoints import Checkpoint, CheckpointError, Checkpoints
from server_app.ledger import Ledger

VERSIONS = {"local_models": {0: 1, 11: 2}}


def folders(checkpoints):
    return sorted(path.name for path in checkpoints.directory.iterdir() if path.name[0] in ".0")


@pytest.fixture
def checkpoints(tmp_path):
    directory = tmp_path / "checkpoints"
    store = ClientStore(directory / "local_models")
    for client, server_round in VERSIONS["local_models"].items():
        store.write(client, server_round, {"w": torch.zeros(1)})
    return Checkpoints(directory, RunConfiguration())


def checkpoint(*steps, value=1.0):
    return Checkpoint(
        {"w": torch.full((3,), value), "n": torch.tensor(7)},
        {"c": torch.full((3,), -value), "total": torch.tensor(90)},
        VERSIONS,
        list(steps),
        Ledger(
            accuracy={"federated": 0.5},
            traffic={"model": {"bytes_down": 3, "bytes_up": 4}},
            dropped=2,
        ),
        {"0": [31, 9]},
        {"examples": [9]},
        {"noise 0": {"0": [4, 5]}},
        123,
    )


ALL = ("train", "generate", "distil", "compete")


def test_a_strategy_may_remember_any_tensors(checkpoints):
    """Transposed, strided, expanded, shared with each other, part of a larger one, or trained."""
    whole = torch.arange(12.0).reshape(3, 4)
    memory = {
        "whole": whole,
        "again": whole,
        "transposed": whole.T,
        "strided": whole[:, ::2],
        "part": whole[1],
        "expanded": torch.ones(1).expand(5),
        "trained": torch.nn.Parameter(torch.ones(2)),
    }
    saved = checkpoint("train-0001")
    saved.memory, saved.global_state = memory, {"w": whole.T, "tied": whole.T}
    checkpoints.save(saved)
    loaded = checkpoints.load(ALL)
    for found, expected in ((loaded.memory, memory), (loaded.global_state, saved.global_state)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_is_saved_is_loaded(checkpoints):
    saved = checkpoint("train-0001", value=2.5)
    checkpoints.save(saved)
    loaded = checkpoints.load(ALL)
    for name in (
        "versions",
        "completed",
        "ledger",
        "nodes",
        "data",
        "label_counts",
        "metrics_position",
    ):
        assert getattr(loaded, name) == getattr(saved, name)
    for found, expected in (
        (loaded.global_state, saved.global_state),
        (loaded.memory, saved.memory),
    ):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value)
            assert found[name].dtype == value.dtype


def test_nothing_saved_nothing_loaded(checkpoints):
    assert checkpoints.load(ALL) is None


@pytest.mark.parametrize("moment", ["first file", "second file", "manifest", "replace"])
def test_killed_while_saving_the_one_before_is_loaded(checkpoints, monkeypatch, moment):
    class Killed(BaseException):
        pass

    checkpoints.save(checkpoint("train-0001"))
    calls = []

    def stop(*given, **named):
        raise Killed

    def second(*given, **named):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return save(*given, **named)

    save = module.write_state
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "first file":
            patch.setattr(module, "write_state", stop)
        elif moment == "second file":
            patch.setattr(module, "write_state", second)
        elif moment == "manifest":
            patch.setattr(module.json, "dumps", stop)
        else:
            patch.setattr(module.Path, "replace", stop)
        checkpoints.save(checkpoint("train-0001", "train-0002", value=9.0))
    assert checkpoints.load(ALL).completed == ["train-0001"]
    checkpoints.save(checkpoint("train-0001", "train-0002", value=3.0))
    loaded = checkpoints.load(ALL)
    assert loaded.completed == ["train-0001", "train-0002"]
    assert float(loaded.global_state["w"][0]) == 3.0
    assert folders(checkpoints) == ["0002-train-0002"]


def test_the_newest_and_the_last_of_every_stage_are_kept(checkpoints):
    steps = ["train-0001", "train-0002", "generate-00", "generate-01", "distil"]
    steps += ["compete-01-train", "compete-01-generate-00", "compete-01-distil"]
    for count in range(1, len(steps) + 1):
        checkpoints.save(checkpoint(*steps[:count]))
    assert folders(checkpoints) == [
        "0002-train-0002",
        "0004-generate-01",
        "0005-distil",
        "0008-compete-01-distil",
    ]
    assert checkpoints.retained() == [VERSIONS] * 4


def test_a_hundred_steps_stay_in_order(checkpoints):
    checkpoints.configuration = RunConfiguration(num_server_rounds=100)
    for count in (9, 10, 99, 100):
        checkpoints.save(checkpoint(*(f"train-{i + 1:04d}" for i in range(count))))
        assert len(checkpoints.load(ALL).completed) == count


def trained_for(checkpoints, rounds):
    checkpoints.configuration = RunConfiguration(num_server_rounds=rounds)
    checkpoints.save(checkpoint(*(f"train-{i + 1:04d}" for i in range(rounds))))


@pytest.mark.parametrize("wanted", [2, 4])
def test_stages_behind_training_start_from_the_rounds_they_name(checkpoints, wanted):
    trained_for(checkpoints, 3)
    assert len(checkpoints.load(("generate", "distil")).completed) == 3
    checkpoints.configuration = RunConfiguration(num_server_rounds=wanted)
    message = r"of 3 federated rounds.*Set num-server-rounds=3, or " + (
        "name the stage train" if wanted > 3 else "start a new run"
    )
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(("generate", "distil"))


def test_training_goes_on_for_more_rounds_and_never_for_fewer(checkpoints):
    trained_for(checkpoints, 3)
    checkpoints.configuration = RunConfiguration(num_server_rounds=5)
    assert len(checkpoints.load(ALL).completed) == 3
    checkpoints.configuration = RunConfiguration(num_server_rounds=2)
    with pytest.raises(CheckpointError, match="num-server-rounds = 2"):
        checkpoints.load(ALL)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda f: (f / "manifest.json").write_text("{"), "is damaged"),
        (lambda f: (f / "manifest.json").unlink(), "is damaged"),
        (lambda f: (f / "global.safetensors").write_bytes(b"x" * 40), "cannot be read"),
        (lambda f: (f / "global.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "strategy.safetensors").write_bytes(b""), "cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_named(checkpoints, damage, text):
    checkpoints.save(checkpoint("train-0001"))
    damage(checkpoints.directory / "0001-train-0001")
    with pytest.raises(CheckpointError, match=text) as error:
        checkpoints.load(ALL)
    assert "0001-train-0001" in str(error.value)


def test_a_checkpoint_of_another_format_is_refused(checkpoints):
    checkpoints.save(checkpoint("train-0001"))
    path = checkpoints.directory / "0001-train-0001" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoints.load(ALL)


def test_a_lost_file_of_a_client_is_named(checkpoints):
    checkpoints.save(checkpoint("train-0001"))
    (checkpoints.directory / "local_models" / "client-00011-round-0002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"client-00011-round-0002\.safetensors is missing"):
        checkpoints.load(ALL)


def test_no_pickle_anywhere(checkpoints):
    checkpoints.save(checkpoint("train-0001"))
    files = {p.suffix for p in checkpoints.directory.rglob("*") if p.is_file()}
    assert files == {".safetensors", ".json"}


def test_client_store_keeps_valid_and_retained_versions_only(tmp_path):
    store = ClientStore(tmp_path)
    for server_round in (1, 2, 3):
        store.write(0, server_round, {"w": torch.tensor(float(server_round))})
    store.write(5, 1, {"w": torch.tensor(50.0)})
    (tmp_path / ".client-00007-round-0001.safetensors.partial").write_bytes(b"killed while writing")
    (tmp_path / "unrelated.txt").write_text("stays")
    store.prune([(0, 1)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "client-00000-round-0001.safetensors",
        "client-00000-round-0003.safetensors",
        "client-00005-round-0001.safetensors",
        "unrelated.txt",
    ]
    assert float(store.read(0)["w"]) == 3.0
    store.declare({0: 1})
    assert float(store.read(0)["w"]) == 1.0
    assert 5 not in store
    with pytest.raises(KeyError):
        store.read(5)
