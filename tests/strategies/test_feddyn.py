"""FedDyn: its fixed point is the minimum of the federated objective, and h = Σ p_i·h_i."""

import pytest
import torch

from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from tests.strategies.controls import controls_gap, error_to


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize(("momentum", "learning_rate"), [(0.0, 0.2), (0.9, 0.05)])
def test_reaches_the_minimum_of_heterogeneous_quadratics(
    laboratory, curved_clients, minimiser, momentum, learning_rate, weight_decay
):
    """Fixed point: y_i = x makes h_i = g_i(x) + λx, and x = Σ p_i y_i - h/α makes h = 0."""
    target = minimiser(curved_clients, weight_decay)
    run = laboratory(
        curved_clients,
        strategy="feddyn",
        feddyn__alpha=2.0,
        momentum=momentum,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    run.rounds(80)
    assert error_to(run, target) <= 1e-9
    assert float(run.strategy.control["weight"].abs().max()) <= 1e-8
    for index, client in enumerate(curved_clients):
        residual = client.images @ target - client.targets
        gradient = client.images.T @ residual / client.samples + weight_decay * target
        remembered = run.strategy.client_control(index)["weight"]
        torch.testing.assert_close(remembered, gradient, rtol=0, atol=1e-8)


def test_client_sampling_keeps_the_invariant_and_the_fixed_point(
    laboratory, curved_clients, minimiser
):
    run = laboratory(
        curved_clients,
        strategy="feddyn",
        feddyn__alpha=2.0,
        fraction_train=0.5,
        learning_rate=0.15,
    )
    for _ in range(20):
        run.round()
        assert len(run.strategy.outcome.clients) == 2
        assert controls_gap(run) < 1e-12
    run.rounds(230)
    assert error_to(run, minimiser(curved_clients)) <= 1e-9


def test_the_first_step_is_twice_that_of_fedprox(laboratory, curved_clients):
    """h_i = 0 leaves the proximal term, and h⁺ = -αΔ adds Δ once more."""
    keys = {"learning_rate": 0.2, "momentum": 0.5}
    first = laboratory(curved_clients, strategy="feddyn", feddyn__alpha=0.3, **keys).rounds(1)
    prox = laboratory(curved_clients, strategy="fedprox", proximal_mu=0.3, **keys).rounds(1)
    torch.testing.assert_close(first, 2 * prox, rtol=1e-12, atol=0)  # from x = 0


def test_a_lost_reply_leaves_the_clients_memory_alone(laboratory, curved_clients, minimiser):
    run = laboratory(curved_clients, strategy="feddyn", feddyn__alpha=1.0, learning_rate=0.2)
    run.rounds(2)
    before = run.strategy.client_control(1)["weight"]
    run.grid.touch = lambda client, reply: None if client == 1 else reply
    run.round()
    assert torch.equal(run.strategy.client_control(1)["weight"], before)
    assert controls_gap(run) < 1e-12


def test_a_restarted_server_goes_on_with_the_same_memory(laboratory, curved_clients):
    whole = laboratory(curved_clients, strategy="feddyn", fraction_train=0.5)
    whole.rounds(6)
    parted = laboratory(curved_clients, strategy="feddyn", fraction_train=0.5)
    parted.rounds(3)
    memory, versions = parted.strategy.memory(), parted.strategy.versions()
    parted.strategy = parted.new_strategy()
    parted.strategy.declare(versions)
    parted.strategy.restore(memory)
    assert torch.equal(parted.rounds(3), whole.state["weight"])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"server-learning-rate": 0.5}, "server-learning-rate = 0.5 has no place"),
        (
            {"local-loss": "not-true-distillation"},
            "learns from the round's global model",
        ),
        ({"feddyn.alpha": 0.0}, r"feddyn\.alpha"),
    ],
)
def test_what_has_no_fixed_point_is_refused(keys, said):
    with pytest.raises(ConfigurationError, match=said):
        preflight.parse({"strategy": "feddyn", **keys})


@pytest.mark.parametrize("name", ["fedacg", "feddyn"])
def test_losses_for_label_skew_compose(name):
    for loss in ("logit-adjusted", "calibrated", "restricted-softmax"):
        assert preflight.parse({"strategy": name, "local-loss": loss}).local_loss == loss
