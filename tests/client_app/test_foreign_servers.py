"""This client under a server that knows nothing of it: Flower's plain strategies."""

import logging

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod, message_size_mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAdam,
    FedAvg,
    FedProx,
    Krum,
)

from client_app.app import app, train
from client_app.train_request import TrainRequest
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.data import DataSet
from foundation.messages.records import from_record, is_packed, packed
from foundation.models import cpu_state
from foundation.settings.configuration import RunConfiguration
from strategies import shared_model

CLIENTS = 4
KEYS = {
    "strategy": "fedavg",
    "num-clients": CLIENTS,
    "dirichlet-alpha": 1.0,
    "train-samples": 160,
    "local-epochs": 1,
    "model": "cnn",
}


def initial(model="cnn"):
    configuration = RunConfiguration.parse({**KEYS, "model": model})
    return ArrayRecord(cpu_state(shared_model(configuration, DataSet("digits").describe())))


@pytest.fixture
def arrays():
    return initial()


def grid(client_app=app, **keys):
    return LocalGrid(client_app, CLIENTS, RunConfiguration.parse({**KEYS, **keys}).flat())


def weights(record):
    return torch.cat([value.flatten().double() for value in record.to_torch_state_dict().values()])


@pytest.mark.parametrize(
    "make",
    [
        lambda: FedAvg(fraction_evaluate=0.0),
        lambda: FedAvg(fraction_evaluate=0.0, arrayrecord_key="model", configrecord_key="settings"),
        lambda: FedAdam(fraction_evaluate=0.0),
        lambda: Krum(fraction_evaluate=0.0, num_malicious_nodes=0),
    ],
)
@pytest.mark.parametrize("model", ["cnn", "resnet8"])
def test_flowers_own_loop_trains_for_three_rounds(make, model):
    """Of BatchNorm's counters, FedAvg makes float64, and FedAdam of everything."""
    arrays = initial(model)
    result = make().start(grid(model=model), arrays, num_rounds=3, timeout=60)
    assert sorted(result.train_metrics_clientapp) == [1, 2, 3]
    losses = [result.train_metrics_clientapp[r]["train-loss"] for r in (1, 2, 3)]
    assert losses[2] < losses[0]
    assert list(result.arrays) == list(arrays)
    assert bool(torch.isfinite(weights(result.arrays)).all())


def test_an_average_of_flowers_is_the_average_of_this_app(arrays):
    """Not the least difference but rounding: the same clients draw the same batches."""
    result = FedAvg(fraction_evaluate=0.0).start(grid(), arrays, num_rounds=1, timeout=60)
    total, expected = 0, 0.0
    for client in range(CLIENTS):
        content = RecordDict(
            {
                "arrays": packed(dict(arrays.to_torch_state_dict())),
                "config": ConfigRecord({"server-round": 1, "client": client}),
            }
        )
        (reply,) = grid().send_and_receive([Message(content, 100 + client, "train")])
        assert is_packed(reply.content["arrays"])
        count = reply.content["metrics"]["num-examples"]
        state = from_record(reply.content["arrays"], dict(arrays.to_torch_state_dict()))
        joined = torch.cat([value.flatten().double() for value in state.values()])
        total, expected = total + count, expected + count * joined
    assert torch.allclose(weights(result.arrays), expected / total, atol=1e-6)


def test_fedprox_of_flowers_brings_its_mu(arrays):
    keys = {"local-epochs": 8, "momentum": 0.0}
    plain = FedAvg(fraction_evaluate=0.0).start(grid(**keys), arrays, num_rounds=1, timeout=60)
    moved = weights(plain.arrays) - weights(arrays)
    for mu in (0.0, 20.0):
        strategy = FedProx(fraction_evaluate=0.0, proximal_mu=mu)
        result = strategy.start(grid(**keys), arrays, num_rounds=1, timeout=60)
        ratio = (weights(result.arrays) - weights(arrays)).norm() / moved.norm()
        assert ratio == pytest.approx(1.0, abs=1e-5) if mu == 0.0 else ratio < 0.3


@pytest.mark.parametrize("mu", [-1.0, float("inf"), "much"])
def test_a_mu_that_is_none_is_refused(arrays, mu):
    content = RecordDict(
        {"arrays": arrays, "config": ConfigRecord({"server-round": 1, "proximal-mu": mu})}
    )
    (reply,) = grid().send_and_receive([Message(content, 100, "train")])
    assert "proximal-mu" in reply.error.reason


def test_mods_see_one_record_in_the_layout_they_expect(arrays, caplog, monkeypatch):
    modded = ClientApp(mods=[message_size_mod, fixedclipping_mod])
    modded.train()(train)
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    caplog.set_level(logging.INFO, logger="flwr")
    strategy = DifferentialPrivacyClientSideFixedClipping(
        FedAvg(fraction_evaluate=0.0), 0.0, 0.01, CLIENTS
    )
    result = strategy.start(grid(modded), arrays, num_rounds=1, timeout=60)
    assert "Outgoing message size" in caplog.text
    moved = (weights(result.arrays) - weights(arrays)).norm()
    assert 0.0 < float(moved) <= 0.0101


def test_a_strategy_that_needs_its_own_server_says_so(arrays):
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
    (reply,) = grid(strategy="scaffold").send_and_receive([Message(content, 100, "train")])
    assert "'correction'" in reply.error.reason and "strategy=fedavg" in reply.error.reason


def test_a_client_without_a_partition_is_known_by_its_node(arrays):
    message = Message(RecordDict({"arrays": arrays}), 100, "train")
    request = TrainRequest.of(message)
    assert request.client(3, 100) == 3
    assert request.client(-1, 100) == 100


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("head.weight", torch.zeros(3, 3), "instead of"),
        ("head.bias", torch.zeros(10, dtype=torch.bool), "bool"),
        ("head.bias", torch.full((10,), float("nan"), dtype=torch.float64), "NaN"),
    ],
)
def test_plain_arrays_are_checked_too(arrays, name, value, said):
    state = dict(arrays.to_torch_state_dict())
    assert name in state
    content = RecordDict(
        {"arrays": ArrayRecord({**state, name: value}), "config": ConfigRecord({"server-round": 1})}
    )
    (reply,) = grid().send_and_receive([Message(content, 100, "train")])
    assert reply.has_error() and said in reply.error.reason
