"""FedACG: Nesterov's recursion where one step is made, and its fixed point where several are."""

import pytest
import torch

from foundation.settings.configuration import RunConfiguration


def test_without_momentum_and_pull_it_is_fedavg_bit_for_bit(laboratory, curved_clients):
    keys = {"momentum": 0.9, "learning_rate": 0.03, "weight_decay": 0.01}
    plain = laboratory(
        curved_clients, strategy="fedacg", fedacg__momentum=0.0, fedacg__pull=0.0, **keys
    )
    average = laboratory(curved_clients, strategy="fedavg", **keys)
    assert torch.equal(plain.rounds(5), average.rounds(5))


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("server_rate", [1.0, 0.5])
def test_one_step_a_round_is_nesterovs_recursion(
    laboratory, curved_clients, weight_decay, server_rate
):
    """The gradient of the whole objective at x + λm; the pull is zero where a client starts."""
    clients = [type(c)(c.images, c.targets, 1) for c in curved_clients]
    run = laboratory(
        clients,
        strategy="fedacg",
        learning_rate=0.2,
        weight_decay=weight_decay,
        server_learning_rate=server_rate,
        fedacg__momentum=0.7,
        fedacg__pull=0.3,
    )
    images = torch.cat([client.images for client in clients])
    targets = torch.cat([client.targets for client in clients])
    x = momentum = torch.zeros(3, dtype=torch.float64)
    for _ in range(6):
        ahead = x + 0.7 * momentum
        gradient = images.T @ (images @ ahead - targets) / len(targets) + weight_decay * ahead
        momentum = 0.7 * momentum - server_rate * 0.2 * gradient
        x = x + momentum
        torch.testing.assert_close(run.round()["weight"], x, rtol=1e-10, atol=1e-12)


def trained(client, start, *, rate, momentum, weight_decay, pull):
    """Return y_i by SGD written out."""
    y, velocity = start.clone(), torch.zeros_like(start)
    for _ in range(client.steps):
        gradient = client.images.T @ (client.images @ y - client.targets) / client.samples
        velocity = momentum * velocity + gradient + pull * (y - start) + weight_decay * y
        y = y - rate * velocity
    return y


@pytest.mark.parametrize(("momentum", "rate"), [(0.0, 0.2), (0.9, 0.03)])
def test_several_steps_end_where_the_mean_of_the_local_steps_is_zero(
    laboratory, curved_clients, momentum, rate
):
    """A client's way is affine in its start: the point where Σ p_i·(y_i - z) = 0 is solved for."""
    keys = {"rate": rate, "momentum": momentum, "weight_decay": 0.1, "pull": 0.2}
    total = sum(client.samples for client in curved_clients)

    def mean_step(start):
        ends = (c.samples / total * trained(c, start, **keys) for c in curved_clients)
        return sum(ends) - start

    origin = mean_step(torch.zeros(3, dtype=torch.float64))
    slope = torch.stack([mean_step(unit) - origin for unit in torch.eye(3).double()], dim=1)
    target = torch.linalg.solve(slope, -origin)
    run = laboratory(
        curved_clients,
        strategy="fedacg",
        learning_rate=rate,
        momentum=momentum,
        weight_decay=0.1,
        fedacg__momentum=0.5,
        fedacg__pull=0.2,
    )
    torch.testing.assert_close(run.rounds(80), target, rtol=0, atol=1e-9)
    assert float(run.strategy.memory()["weight"].abs().max()) <= 1e-9


def test_sampled_clients_that_agree_reach_their_minimum(laboratory, curved_clients):
    minimum = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    clients = [type(c)(c.images, c.images @ minimum, c.steps) for c in curved_clients]
    run = laboratory(
        clients, strategy="fedacg", learning_rate=0.2, fraction_train=0.5, fedacg__momentum=0.5
    )
    torch.testing.assert_close(run.rounds(80), minimum, rtol=0, atol=1e-9)


def test_a_restarted_server_goes_on_with_the_same_momentum(laboratory, curved_clients):
    whole = laboratory(curved_clients, strategy="fedacg", fraction_train=0.5)
    whole.rounds(6)
    parted = laboratory(curved_clients, strategy="fedacg", fraction_train=0.5)
    parted.rounds(3)
    memory, versions = parted.strategy.memory(), parted.strategy.versions()
    parted.strategy = parted.new_strategy()
    parted.strategy.declare(versions)
    parted.strategy.restore(memory)
    assert torch.equal(parted.rounds(3), whole.state["weight"])


def test_the_settings_are_bounded():
    with pytest.raises(ValueError, match=r"fedacg\.momentum = 1\.0"):
        RunConfiguration.parse({"fedacg.momentum": 1.0})
