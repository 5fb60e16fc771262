"""Frozen layers travel once, and are known by their hash from then on."""

import shutil

import pytest
import torch
from flwr.app import ConfigRecord, RecordDict

from fedf2dg import simulate
from foundation.messages import frozen_layers
from foundation.messages.content import Received
from foundation.messages.frozen_layers import FROZEN, WITHOUT, FrozenLayers, held_layers
from foundation.messages.records import InvalidContent, names_in, packed
from foundation.models import StateLayout, build, cpu_state, digest_of
from foundation.models.freezing import freeze
from foundation.settings.configuration import RunConfiguration

MODEL = build("resnet8", classes=3, image_size=8, seed=1)
freeze(MODEL, ["encoder"])
STATE = cpu_state(MODEL)
NAMES = StateLayout.of(MODEL).frozen


@pytest.fixture(autouse=True)
def own_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path / "cache"))
    frozen_layers._HELD.clear()
    return tmp_path / "cache"


def message(layers, held, state=STATE):
    states, said = layers.sent({"arrays": state}, held)
    records = {name: packed(value) for name, value in states.items()}
    return RecordDict({**records, "config": ConfigRecord(said)})


def read(content):
    return Received(content, held_layers(content, STATE, NAMES)).state("arrays", STATE)


@pytest.mark.parametrize("new_process", [False, True])
def test_what_comes_without_frozen_layers_is_read_as_if_they_had_come(new_process):
    layers = FrozenLayers(STATE, NAMES)
    read(message(layers, held=False))
    if new_process:
        frozen_layers._HELD.clear()
    trained = {**STATE, "head.weight": STATE["head.weight"] + 1}
    sent = message(layers, held=True, state=trained)
    assert set(names_in(sent.array_records["arrays"])) == {"head.weight", "head.bias"}
    found = read(sent)
    assert all(torch.equal(found[name], trained[name]) for name in STATE)


def test_a_client_that_lost_them_says_so_and_is_sent_them_again(own_disk):
    layers = FrozenLayers(STATE, NAMES)
    read(message(layers, held=False))
    layers.answered([0, 1], [])
    assert layers.held_by(0) and layers.held_by(1)
    frozen_layers._HELD.clear()
    shutil.rmtree(own_disk)
    with pytest.raises(InvalidContent, match="does not hold the frozen layers"):
        read(message(layers, held=True))
    layers.answered([1], [0])
    assert not layers.held_by(0) and layers.held_by(1)


def test_layers_under_another_hash_are_refused():
    content = message(FrozenLayers(STATE, NAMES), held=False)
    content.config_records["config"][FROZEN] = "0" * 64
    with pytest.raises(InvalidContent, match="not those that it names"):
        read(content)


def test_another_encoder_is_sent_whole():
    layers = FrozenLayers(STATE, NAMES)
    other = {**STATE, NAMES[0]: STATE[NAMES[0]] + 1}
    states, said = layers.sent({"base": STATE, "target": other}, held=True)
    assert set(states["target"]) == set(STATE) and set(states["base"]) == {
        "head.weight",
        "head.bias",
    }
    assert said[WITHOUT] == ["base"]
    assert digest_of(dict(reversed(STATE.items()))) == digest_of(STATE)


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "moon", "local"])
def test_a_run_sends_a_frozen_encoder_once(tmp_path, strategy):
    settings = {
        "train_samples": 200,
        "num_clients": 2,
        "num_server_rounds": 3,
        "local_epochs": 1,
        "partition": "iid",
        "stages": "train",
        "processes": 1,
        "strategy": strategy,
        "output_dir": str(tmp_path / "run"),
    }
    summary = simulate(RunConfiguration(freeze="encoder", **settings))
    projection = 256 if strategy == "moon" else 0
    model = build("resnet8", classes=10, channels=1, image_size=8, projection_dim=projection)
    whole, encoder = (
        sum(value.nbytes for name, value in cpu_state(model).items() if name.startswith(part))
        for part in ("", "encoder.")
    )
    traffic = summary["traffic"]["model"]
    # Two clients, three rounds; beside the trained part, at most as much again.
    assert traffic["bytes_up"] <= 6 * 2 * (whole - encoder)
    assert 2 * whole <= traffic["bytes_down"] <= 2 * whole + 6 * 2 * (whole - encoder)
