"""Flower's strategies as algorithms of this app: their formulas, and what stays the app's."""

import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg, FedAvgM, FedProx, FedTrimmedAvg
from flwr.serverapp.strategy import Strategy as FlowerStrategy
from safetensors.torch import load_file, save_file

import fedf2dg
import strategies
from foundation.messages.records import from_record
from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from strategies import TooFewReplies, from_flower
from strategies.object_state import (
    CannotRemember,
    attributes_from_state,
    attributes_to_state,
)

BY_NAME = [
    "bulyan",
    "fedadagrad",
    "fedadam",
    "fedavgm",
    "fedmedian",
    "fedtrimmedavg",
    "fedyogi",
    "krum",
    "multikrum",
    "qfedavg",
]
REMEMBERING = ["fedadagrad", "fedadam", "fedavgm", "fedyogi"]
RATE = 0.1


@pytest.fixture
def offer(monkeypatch):
    """Return a function that makes a strategy choosable by name."""

    def add(name, make):
        offered = SimpleNamespace(offered=from_flower(name, make), __file__=__file__)
        monkeypatch.setitem(sys.modules, f"{name}_of_a_test", offered)
        return f"{name}_of_a_test:offered"

    return add


@pytest.fixture
def seven_clients(make_client):
    """Least squares of different sizes and minima; enough for Bulyan with one liar."""
    draw = torch.Generator().manual_seed(5)
    return [
        make_client(
            torch.randn(n, 3, generator=draw).double(), torch.randn(n, generator=draw).double()
        )
        for n in (9, 4, 12, 6, 8, 5, 10)
    ]


def watched(run):
    """Collect every client's local weights of the round, (clients, d)."""
    seen = {}

    def note(client, reply):
        seen[client] = from_record(reply.content["arrays"], run.state)["weight"]
        return reply

    run.grid.touch = note
    return lambda: torch.stack([seen[client] for client in sorted(seen)])


def averaged_update(clients, weights):
    """Σ p_i(y_i - x) after one full-batch step each: gradient descent on pooled least squares."""
    total = sum(client.samples for client in clients)
    gradient = sum(c.images.T @ (c.images @ weights - c.targets) for c in clients) / total
    return -RATE * gradient


def test_fedavg_through_the_adapter_is_ours(laboratory, curved_clients, offer):
    wrapped = laboratory(curved_clients, strategy=offer("plain", lambda _: FedAvg())).rounds(5)
    ours = laboratory(curved_clients, strategy="fedavg").rounds(5)
    assert float((wrapped - ours).abs().max()) <= 1e-6
    assert float(ours.abs().max()) > 0.1


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_adaptive_steps_follow_the_papers_formulas(laboratory, seven_clients, name):
    """Reddi et al. 2021, Algorithm 2; to Adam Flower adds the bias correction, at t + 1."""
    eta, beta1, beta2, tau = 0.05, 0.8, 0.95, 1e-2
    if name == "fedadagrad":
        beta1 = 0.0
    run = laboratory(
        seven_clients,
        strategy=name,
        learning_rate=RATE,
        server_optimizer__learning_rate=eta,
        server_optimizer__beta1=0.8,
        server_optimizer__beta2=beta2,
        server_optimizer__tau=tau,
    )
    x = torch.zeros(3, dtype=torch.float64)
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for t in (1, 2, 3):
        delta = averaged_update(seven_clients, x)
        m = beta1 * m + (1 - beta1) * delta
        square = delta**2
        step = eta
        if name == "fedadagrad":
            v = v + square
        elif name == "fedyogi":
            v = v - (1 - beta2) * square * torch.sign(v - square)
        else:
            v = beta2 * v + (1 - beta2) * square
            step = eta * (1 - beta2 ** (t + 1)) ** 0.5 / (1 - beta1 ** (t + 1))
        x = x + step * m / (v.sqrt() + tau)
        assert torch.allclose(run.round()["weight"], x, rtol=1e-10, atol=1e-12)


def test_server_momentum_is_heavy_ball(laboratory, seven_clients):
    run = laboratory(
        seven_clients,
        strategy="fedavgm",
        learning_rate=RATE,
        server_optimizer__learning_rate=0.5,
        server_optimizer__momentum=0.7,
    )
    x = torch.zeros(3, dtype=torch.float64)
    velocity = torch.zeros_like(x)
    for _ in range(4):
        velocity = 0.7 * velocity - averaged_update(seven_clients, x)
        x = x - 0.5 * velocity
        assert torch.allclose(run.round()["weight"], x, rtol=1e-10, atol=1e-12)


def test_server_momentum_goes_on_from_a_model_that_was_put_in_its_place(laboratory, seven_clients):
    """Distillation replaces the global model between rounds; FedAvgM keeps a copy of its own."""
    run = laboratory(
        seven_clients, strategy="fedavgm", learning_rate=RATE, server_optimizer__momentum=0.0,
        server_optimizer__learning_rate=0.5,
    )  # fmt: skip
    run.round()
    moved = torch.tensor([5.0, -3.0, 2.0], dtype=torch.float64)
    run.state = {"weight": moved}
    expected = moved + 0.5 * averaged_update(seven_clients, moved)
    assert torch.allclose(run.round()["weight"], expected, rtol=1e-10)


def test_the_median_is_taken_coordinate_by_coordinate(laboratory, seven_clients):
    run = laboratory(seven_clients, strategy="fedmedian")
    local = watched(run)
    result = run.round()["weight"]
    assert torch.equal(result, local().median(0).values)


def test_the_trimmed_mean_leaves_out_both_ends(laboratory, seven_clients):
    run = laboratory(seven_clients, strategy="fedtrimmedavg", robust__trimmed_fraction=0.3)
    local = watched(run)
    result = run.round()["weight"]
    middle = local().sort(0).values[2:-2]  # 0.3 * 7 = 2.1: two at either end
    assert torch.allclose(result, middle.mean(0), rtol=1e-12)


def poison(run, liar):
    """Have one client answer with weights far away."""
    before = run.grid.touch

    def touch(client, reply):
        if client == liar:
            state = from_record(reply.content["arrays"], run.state)
            reply.content["arrays"] = ArrayRecord({"weight": state["weight"] + 1e3})
        return before(client, reply)

    run.grid.touch = touch


def test_krum_takes_one_client_and_not_the_liar(laboratory, seven_clients):
    run = laboratory(seven_clients, strategy="krum")
    local = watched(run)
    poison(run, liar=2)
    result = run.round()["weight"]
    chosen = [index for index, weights in enumerate(local()) if torch.equal(weights, result)]
    assert len(chosen) == 1 and chosen != [2]


@pytest.mark.parametrize("name", ["multikrum", "bulyan", "fedmedian", "fedtrimmedavg"])
def test_a_liar_stays_outside_of_what_robust_rules_return(laboratory, seven_clients, name):
    run = laboratory(seven_clients, strategy=name)
    local = watched(run)
    poison(run, liar=2)
    result = run.round()["weight"]
    honest = torch.cat([local()[:2], local()[3:]])
    assert bool((result >= honest.min(0).values).all() and (result <= honest.max(0).values).all())
    plain = laboratory(seven_clients, strategy="fedavg")
    watched(plain)
    poison(plain, liar=2)
    assert float(plain.round()["weight"].abs().max()) > 100


def test_multikrum_averages_as_many_as_it_is_told_to(laboratory, seven_clients):
    run = laboratory(seven_clients, strategy="multikrum", robust__clients_to_keep=6)
    local = watched(run)
    result = run.round()["weight"]
    sizes = torch.tensor([float(client.samples) for client in seven_clients]).double()
    means = []
    for left_out in range(7):
        rows = [index for index in range(7) if index != left_out]
        means.append(sizes[rows] @ local()[rows] / sizes[rows].sum())
    assert sum(torch.allclose(result, mean, rtol=1e-12) for mean in means) == 1


def test_without_fairness_every_client_weighs_the_same(laboratory, seven_clients):
    run = laboratory(seven_clients, strategy="qfedavg", server_optimizer__fairness=0.0)
    local = watched(run)
    result = run.round()["weight"]
    assert torch.allclose(result, local().mean(0), rtol=1e-12)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_killed_run_resumes_bit_for_bit(laboratory, seven_clients, tmp_path, name):
    whole = laboratory(seven_clients, strategy=name)
    whole.rounds(5)

    run = laboratory(seven_clients, strategy=name)
    run.rounds(2)
    save_file(run.strategy.memory(), tmp_path / "strategy.safetensors")
    committed, versions = run.state, run.strategy.versions()
    run.round()  # killed before this round was committed
    run.state, run.server_round = committed, 2
    run.strategy = run.new_strategy()
    run.strategy.declare(versions)
    run.strategy.restore(load_file(tmp_path / "strategy.safetensors"))
    run.rounds(3)
    assert torch.equal(run.state["weight"], whole.state["weight"])


@pytest.mark.parametrize("name", REMEMBERING)
def test_forgetting_would_be_seen(laboratory, seven_clients, name):
    """The test above could not fail for a strategy that remembers nothing."""
    whole = laboratory(seven_clients, strategy=name)
    whole.rounds(5)
    run = laboratory(seven_clients, strategy=name)
    run.rounds(2)
    run.strategy = run.new_strategy()
    run.rounds(3)
    assert not torch.equal(run.state["weight"], whole.state["weight"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strategy": "krum", "num-clients": 4}, "'krum' needs at least 5 clients"),
        ({"strategy": "multikrum", "num-clients": 4}, "'multikrum' needs at least 5"),
        (
            {"strategy": "multikrum", "num-clients": 8, "robust.clients-to-keep": 8},
            "needs at least 9 clients",
        ),
        ({"strategy": "bulyan", "num-clients": 6}, "'bulyan' needs at least 7 clients"),
        (
            {"strategy": "bulyan", "robust.malicious-clients": 2},
            r"at least 11 clients.*malicious-clients = 2.*gives 10",
        ),
        ({"strategy": "krum", "fraction-train": 0.4}, "gives 4"),
        (
            {"strategy": "fedadam", "server-learning-rate": 0.5},
            "server-learning-rate = 0.5 has no effect.*server-optimizer.learning-rate",
        ),
        ({"strategy": "fedtrimmedavg", "robust.trimmed-fraction": 0.5}, "trimmed-fraction"),
        ({"strategy": "fedyogi", "server-optimizer.beta2": 1.0}, "server-optimizer.beta2"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        preflight.parse(settings)


def test_a_round_with_fewer_replies_than_the_rule_needs_fails(laboratory, seven_clients):
    run = laboratory(seven_clients, strategy="bulyan")
    run.grid.touch = lambda client, reply: None if client == 0 else reply
    with pytest.raises(TooFewReplies, match="6 of 7"):
        run.round()


# ------------------------------------------------------------------------ anybody's own strategies


class Counting(FedAvg):
    """Keeps attributes of many kinds, and takes a step that depends on all of them."""

    def __init__(self):
        super().__init__()
        self.inner = FedAvgM(server_learning_rate=0.5, server_momentum=0.9)
        self.history = [{"round": 0, "scale": np.float32(1.0)}]
        self.total = None
        self.pair = (1, "text", None, True)

    def configure_train(self, server_round, arrays, config, grid):
        self.inner.configure_train(server_round, arrays, config, grid)
        config["my-setting"] = 0.25
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        arrays, metrics = self.inner.aggregate_train(server_round, replies)
        values = arrays["weight"].numpy()
        self.total = values if self.total is None else self.total + values
        scale = np.float32(self.history[-1]["scale"] * np.float32(0.9))
        self.history.append({"round": server_round, "scale": scale})
        return ArrayRecord({"weight": torch.from_numpy(values + scale * self.total)}), metrics


def test_a_strategy_of_somebody_elses_resumes_with_all_its_attributes(
    laboratory, seven_clients, offer, tmp_path
):
    name = offer("counting", lambda _: Counting())
    whole = laboratory(seven_clients, strategy=name)
    whole.rounds(5)
    run = laboratory(seven_clients, strategy=name)
    run.rounds(2)
    save_file(run.strategy.memory(), tmp_path / "strategy.safetensors")
    run.strategy = run.new_strategy()
    run.strategy.restore(load_file(tmp_path / "strategy.safetensors"))
    assert run.strategy.wrapped.history[1]["round"] == 1
    assert isinstance(run.strategy.wrapped.history[1]["scale"], np.float32)
    assert run.strategy.wrapped.pair == (1, "text", None, True)
    run.rounds(3)
    assert torch.equal(run.state["weight"], whole.state["weight"])


def test_settings_that_a_strategy_sends_reach_the_clients(laboratory, seven_clients, offer):
    sent = []
    for name, make in (("counting", Counting), ("prox", lambda: FedProx(proximal_mu=0.3))):
        run = laboratory(seven_clients, strategy=offer(name, lambda _, make=make: make()))
        pushed = run.grid.push_messages
        run.grid.push_messages = lambda messages, pushed=pushed: pushed(
            [sent.append(dict(m.content.config_records.get("config", {}))) or m for m in messages]
        )
        run.round()
    trained = [config for config in sent if "client" in config]
    assert [config.get("my-setting") for config in trained] == [0.25] * 7 + [None] * 7
    assert [config.get("proximal-mu") for config in trained] == [None] * 7 + [0.3] * 7


class Stateful(FedAvg):
    def __init__(self):
        super().__init__()
        self.random = random.Random(1)


class OtherArrays(FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        half = arrays.copy()
        half["weight"] = ArrayRecord({"w": torch.zeros(3)})["w"]
        return super().configure_train(server_round, half, config, grid)


class Impatient(FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        while len(list(grid.get_node_ids())) < 100:
            pass
        return []


class Speaking(FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        return grid.send_and_receive([])


class Renaming(FedAvg):
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord({"other": arrays["weight"]}), metrics


def test_what_cannot_be_built_or_kept_is_refused_before_any_work(offer):
    stateful = offer("stateful", lambda _: Stateful())
    with pytest.raises(CannotRemember, match="'random' is a Random, which a checkpoint cannot"):
        preflight.parse({"strategy": stateful})
    impossible = offer("impossible", lambda _: FedTrimmedAvg(beta=0.7))
    with pytest.raises(ConfigurationError, match=r"'impossible'.*beta"):
        preflight.parse({"strategy": impossible})


def test_it_is_part_of_the_librarys_face():
    assert fedf2dg.from_flower is from_flower


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (OtherArrays, ConfigurationError, "OtherArrays sends its clients other arrays"),
        (Impatient, ConfigurationError, "waits for more nodes than the 7"),
        (Speaking, ConfigurationError, "speaks to nodes by itself"),
        (Renaming, ValueError, "Renaming returned other arrays"),
    ],
)
def test_a_strategy_that_does_not_fit_is_refused_by_name(
    laboratory, seven_clients, offer, make, error, said
):
    with pytest.raises(error, match=said):
        laboratory(seven_clients, strategy=offer("odd", lambda _: make())).round()


def test_one_client_is_enough_for_flowers_own_sampling(laboratory, seven_clients):
    """FedAvg's default of two nodes would wait for ever."""
    run = laboratory(seven_clients[:1], strategy="fedadam")
    assert float(run.round()["weight"].abs().max()) > 0


def test_what_is_taken_out_shares_no_memory_and_does_not_alias():
    class Holder:
        pass

    holder = Holder()
    holder.matrix = np.arange(6.0).reshape(2, 3).T
    holder.twice = [holder.matrix, torch.ones(2, 3).T]
    state = attributes_to_state(holder)
    assert all(value.is_contiguous() for value in state.values())
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    holder.matrix *= 0
    other = Holder()
    attributes_from_state(other, state)
    assert np.array_equal(other.matrix, np.arange(6.0).reshape(2, 3).T)
    assert torch.equal(other.twice[1], torch.ones(3, 2))


def test_every_strategy_by_name_is_one_of_flowers():
    for name in BY_NAME:
        configuration = preflight.parse({"strategy": name})
        assert isinstance(strategies.get(name).server.make(configuration), FlowerStrategy)
