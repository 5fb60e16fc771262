"""SCAFFOLD: its fixed point is the minimum of the federated objective, and c = Σ p_i·c_i."""

import pytest
import torch
from flwr.app import ArrayRecord, Error, Message

from tests.strategies.controls import controls_gap, error_to


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize(("momentum", "learning_rate"), [(0.0, 0.2), (0.9, 0.04)])
def test_reaches_the_minimum_of_heterogeneous_quadratics_where_fedavg_does_not(
    laboratory, curved_clients, minimiser, momentum, learning_rate, weight_decay
):
    """Fixed point: c_i = g_i(w*) + λw* and c = Σ p_i·c_i = 0 make every local step zero at w*."""
    target = minimiser(curved_clients, weight_decay)
    keys = {"momentum": momentum, "learning_rate": learning_rate, "weight_decay": weight_decay}
    scaffold = laboratory(curved_clients, strategy="scaffold", **keys)
    scaffold.rounds(80)
    assert error_to(scaffold, target) <= 1e-9
    assert float(scaffold.strategy.control["weight"].abs().max()) <= 1e-8
    fedavg = laboratory(curved_clients, strategy="fedavg", **keys)
    fedavg.rounds(40)
    assert error_to(fedavg, target) > 1e-3


def test_client_controls_become_the_local_gradients_at_the_minimum(
    laboratory, curved_clients, minimiser
):
    target = minimiser(curved_clients)
    scaffold = laboratory(curved_clients, strategy="scaffold", learning_rate=0.2)
    scaffold.rounds(50)
    for index, client in enumerate(curved_clients):
        residual = client.images @ target - client.targets
        gradient = client.images.T @ residual / client.samples
        torch.testing.assert_close(
            scaffold.strategy.client_control(index)["weight"], gradient, rtol=0, atol=1e-8
        )


def test_first_round_equals_fedavg_because_all_controls_start_at_zero(laboratory, curved_clients):
    first = laboratory(curved_clients, strategy="scaffold").rounds(1)
    assert torch.equal(first, laboratory(curved_clients, strategy="fedavg").rounds(1))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_client_sampling_keeps_the_invariant_and_the_fixed_point(
    laboratory, curved_clients, minimiser, momentum
):
    scaffold = laboratory(
        curved_clients,
        strategy="scaffold",
        fraction_train=0.5,
        momentum=momentum,
        learning_rate=0.04 if momentum else 0.15,
    )
    for _ in range(20):
        scaffold.round()
        assert len(scaffold.strategy.outcome.clients) == 2
        assert controls_gap(scaffold) < 1e-12
    scaffold.rounds(140)
    assert error_to(scaffold, minimiser(curved_clients)) <= 1e-9


def lose(reply):
    return None


def fail(reply):
    return Message(Error(code=2, reason="out of memory"), reply_to=reply)


def poison(reply):
    record = reply.content["arrays"]
    broken = {k: torch.full_like(v, torch.nan) for k, v in record.to_torch_state_dict().items()}
    reply.content["arrays"] = ArrayRecord(broken)
    return reply


@pytest.mark.parametrize("damage", [lose, poison])
def test_a_lost_or_broken_reply_keeps_the_invariant_and_the_clients_control(
    laboratory, curved_clients, minimiser, damage
):
    scaffold = laboratory(curved_clients, strategy="scaffold", learning_rate=0.2)
    for server_round in range(1, 13):
        victim = server_round % 4
        before = scaffold.strategy.client_control(victim) if server_round > 1 else None
        scaffold.grid.touch = lambda client, reply, v=victim: (
            damage(reply) if client == v else reply
        )
        scaffold.round()
        assert victim not in scaffold.strategy.outcome.clients
        assert [failure.client for failure in scaffold.strategy.outcome.failures] == [victim]
        assert controls_gap(scaffold) < 1e-12
        if before is not None:
            after = scaffold.strategy.client_control(victim)
            assert torch.equal(before["weight"], after["weight"])
    scaffold.grid.touch = None
    scaffold.rounds(50)
    assert error_to(scaffold, minimiser(curved_clients)) <= 1e-9


def test_a_client_that_joins_later_changes_the_objective_and_nothing_else(
    laboratory, curved_clients, minimiser
):
    """From its first round on, p_i refers to all clients: the invariant must hold at once."""
    scaffold = laboratory(curved_clients, strategy="scaffold", num_clients=3, learning_rate=0.2)
    scaffold.grid.online = {0, 1, 2}
    scaffold.rounds(10)
    assert controls_gap(scaffold) < 1e-12
    # clients_per_round follows num-clients: three of the four are drawn from here on.
    scaffold.grid.online = {0, 1, 2, 3}
    for _ in range(10):
        scaffold.round()
        assert controls_gap(scaffold) < 1e-12
    scaffold.rounds(100)
    assert error_to(scaffold, minimiser(curved_clients)) <= 1e-9


def test_the_control_that_was_sent_is_the_one_that_is_subtracted_when_a_client_joins(
    laboratory, curved_clients
):
    """c_i⁺ = c_i - c + (x - y_i)/(η‖a‖₁) with the c of the message, for plain SGD the mean
    gradient along the local path, whatever happened to the membership."""
    clients = [type(c)(c.images, c.targets, 1) for c in curved_clients]  # one step: gradient at x
    scaffold = laboratory(clients, strategy="scaffold", num_clients=3)
    scaffold.grid.online = {0, 1, 2}
    scaffold.rounds(4)
    scaffold.grid.online = {0, 1, 2, 3}
    start = scaffold.state["weight"].clone()
    scaffold.round()
    for index in scaffold.strategy.outcome.clients:
        client = clients[index]
        gradient = client.images.T @ (client.images @ start - client.targets) / client.samples
        torch.testing.assert_close(
            scaffold.strategy.client_control(index)["weight"], gradient, rtol=0, atol=1e-12
        )


def test_a_restarted_server_goes_on_with_the_same_controls(laboratory, curved_clients):
    whole = laboratory(curved_clients, strategy="scaffold", fraction_train=0.5)
    whole.rounds(10)
    parted = laboratory(curved_clients, strategy="scaffold", fraction_train=0.5)
    parted.rounds(5)
    memory, versions = parted.strategy.memory(), parted.strategy.versions()
    parted.strategy = parted.new_strategy()
    parted.strategy.declare(versions)
    parted.strategy.restore(memory)
    parted.rounds(5)
    assert torch.equal(parted.state["weight"], whole.state["weight"])
    assert controls_gap(parted) < 1e-12


def test_correction_is_of_the_trainable_parameters_only(laboratory, make_client):
    class Normalised(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(2).double()
            self.weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

        def embed(self, images):
            return self.norm(images)

        def classify(self, features):
            return features @ self.weight

    torch.manual_seed(0)
    clients = [make_client(torch.randn(6, 2).double() + k, torch.randn(6).double()) for k in (0, 5)]
    scaffold = laboratory(clients, strategy="scaffold", model=Normalised())
    scaffold.rounds(2)
    assert set(scaffold.strategy.client_control(0)) == {"norm.weight", "norm.bias", "weight"}
    assert set(scaffold.strategy.control) == {"norm.weight", "norm.bias", "weight"}


def test_dropped_clients_are_named_in_a_warning(laboratory, curved_clients, app_log):
    scaffold = laboratory(curved_clients, strategy="scaffold")
    scaffold.grid.touch = lambda client, reply: fail(reply) if client == 2 else reply
    scaffold.round()
    assert "client 2 dropped: out of memory" in app_log.text
