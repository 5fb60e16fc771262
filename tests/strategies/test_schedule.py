"""The step size over the rounds: the same on the server and its clients."""

import math
from itertools import pairwise

import pytest
import torch

from foundation.models.aggregation import normalizer
from foundation.settings.algorithms import MoonSettings
from foundation.settings.configuration import ConfigurationError, RunConfiguration


def rates(rounds=8, **keys):
    values = {f"schedule.{name.replace('_', '-')}": value for name, value in keys.items()}
    configuration = RunConfiguration.parse(
        {"learning-rate": 0.4, "num-server-rounds": rounds, **values}
    )
    return [configuration.learning_rate_at(r) for r in range(1, rounds + 3)]


def test_constant_is_the_learning_rate():
    assert rates() == [0.4] * 10


def test_cosine_begins_at_the_learning_rate_falls_evenly_and_ends_above_zero():
    found = rates(kind="cosine")
    assert found[0] == 0.4
    assert found[4] == pytest.approx(0.2)
    assert all(a > b for a, b in pairwise(found[:8]))
    assert found[7] == pytest.approx(0.2 * (1 + math.cos(math.pi * 7 / 8)))
    assert found[8:] == [found[7]] * 2  # the competition's rounds


def test_step_multiplies_every_so_many_rounds():
    found = rates(kind="step", decay=0.5, every=3)
    assert found == pytest.approx([0.4] * 3 + [0.2] * 3 + [0.1] * 4)


def test_warm_up_grows_evenly_to_the_schedules_beginning():
    found = rates(kind="cosine", warm_up_rounds=3)
    assert found[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert found[4] == pytest.approx(0.2 * (1 + math.cos(math.pi / 5)))


def test_a_warm_up_without_end_is_refused():
    with pytest.raises(ConfigurationError, match=r"schedule.warm-up-rounds = 5 must be below"):
        RunConfiguration.parse({"schedule.warm-up-rounds": 5})


def linear_loss(predictions, targets):
    """⟨x̄, w⟩: the gradient g_i is the mean image, wherever w is."""
    return predictions.mean()


HALVED = {"schedule__kind": "step", "schedule__decay": 0.5, "schedule__every": 1}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scaffolds_controls_are_the_gradients_at_every_step_size(
    laboratory, curved_clients, momentum
):
    """Of constant gradients, c_i⁺ = c_i - c + (x - y_i)/(η‖a‖₁) is g_i, if η is the clients'."""
    run = laboratory(curved_clients, linear_loss, strategy="scaffold", momentum=momentum, **HALVED)
    for _ in range(3):
        run.round()
        for index, client in enumerate(curved_clients):
            control = run.strategy.client_control(index)["weight"]
            assert torch.allclose(control, client.images.mean(0), rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fednova_takes_the_step_of_the_rounds_learning_rate(laboratory, curved_clients, momentum):
    """x⁺ = x - η·τ_eff·Σ p_i(g_i + λx); ‖a_i‖₁ depends on η where there is weight decay."""
    decay = 0.5
    run = laboratory(
        curved_clients,
        linear_loss,
        strategy="fednova",
        momentum=momentum,
        weight_decay=decay,
        **HALVED,
    )
    total = sum(client.samples for client in curved_clients)
    for eta in (0.1, 0.05, 0.025):
        before = run.state["weight"]
        effective = sum(
            client.samples
            / total
            * normalizer(client.steps, learning_rate=eta, momentum=momentum, weight_decay=decay)
            for client in curved_clients
        )
        gradient = sum(client.images.sum(0) for client in curved_clients) / total + decay * before
        expected = before - eta * effective * gradient
        assert torch.allclose(run.round()["weight"], expected, rtol=1e-9)


def test_mu_follows_the_schedule_where_it_is_said_and_the_step_size_then_does_not():
    settings = {"schedule.kind": "step", "schedule.decay": 0.5, "schedule.every": 1}
    for of, mus, steps in (
        ("learning-rate", [0.01, 0.01], [0.01, 0.005]),
        ("mu", [0.01, 0.005], [0.01, 0.01]),
        ("both", [0.01, 0.005], [0.01, 0.005]),
    ):
        configuration = RunConfiguration.parse({"schedule.of": of, **settings})
        rounds = [configuration.with_mu_at(r) for r in (1, 2)]
        assert [found.proximal_mu for found in rounds] == pytest.approx(mus)
        assert [found.section(MoonSettings).mu for found in rounds] == pytest.approx(
            [configuration.section(MoonSettings).mu * mu / 0.01 for mu in mus]
        )
        assert [configuration.learning_rate_at(r) for r in (1, 2)] == pytest.approx(steps)


def test_clients_of_fedprox_train_with_the_mu_of_the_round(laboratory, curved_clients):
    plain = laboratory(curved_clients, strategy="fedprox", proximal_mu=2.0)
    falling = laboratory(
        curved_clients, strategy="fedprox", proximal_mu=2.0, schedule__of="mu", **HALVED
    )
    weaker = laboratory(curved_clients, strategy="fedprox", proximal_mu=1.0)
    for run in (plain, falling):
        run.round()
    (name,) = plain.state
    assert torch.equal(falling.state[name], plain.state[name])
    weaker.state = {name: plain.state[name].clone()}
    falling.round()
    weaker.round()
    assert torch.allclose(falling.state[name], weaker.state[name], atol=1e-12)
    plain.round()
    assert not torch.allclose(falling.state[name], plain.state[name])
