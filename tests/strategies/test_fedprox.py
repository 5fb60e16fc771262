"""FedProx: the proximal gradient, its limits, and what it does to local steps."""

import pytest
import torch

from foundation.settings.configuration import RunConfiguration
from strategies.fedprox import FedProxClient


def test_without_mu_it_is_fedavg_bit_for_bit(laboratory, curved_clients):
    keys = {"momentum": 0.9, "learning_rate": 0.03, "weight_decay": 0.01, "local_epochs": 3}
    prox = laboratory(curved_clients, strategy="fedprox", proximal_mu=0.0, **keys)
    average = laboratory(curved_clients, strategy="fedavg", **keys)
    for _ in range(5):
        assert torch.equal(prox.round()["weight"], average.round()["weight"])


def test_gradient_is_that_of_half_mu_times_the_squared_distance(laboratory, make_client):
    model = torch.nn.Linear(3, 2).double()
    client = FedProxClient(RunConfiguration.parse({"proximal-mu": 0.3}))
    client.begin_round(model, {})
    anchor = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    images = torch.randn(5, 3, dtype=torch.float64)
    parameters = list(model.parameters())
    model(images).square().sum().backward()
    client.adjust_gradients(parameters)
    distance = sum((p - a).square().sum() for p, a in zip(parameters, anchor, strict=True))
    loss = model(images).square().sum() + 0.3 / 2 * distance
    for parameter, expected in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_local_training_ends_at_the_proximal_point(laboratory, make_client):
    """Many local steps solve min ½h(w - b)² + (μ/2)(w - x)²: from x = 0, y = hb/(h + μ)."""
    curvature, minimum, mu = 1.0, 4.0, 3.0
    client = make_client(
        torch.ones(200, 1).double() * curvature**0.5, torch.full((200,), minimum).double(), 200
    )
    run = laboratory([client], strategy="fedprox", proximal_mu=mu, learning_rate=0.1)
    assert float(run.rounds(1)) == pytest.approx(curvature * minimum / (curvature + mu), abs=1e-12)


def test_a_large_mu_keeps_clients_near_the_global_model(laboratory, curved_clients):
    def drift(mu):
        run = laboratory(curved_clients, strategy="fedprox", proximal_mu=mu, local_epochs=5)
        return float(run.rounds(1).norm())

    assert drift(5.0) < drift(0.5) < drift(0.0)
