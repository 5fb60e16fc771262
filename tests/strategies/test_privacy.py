"""Training under Flower's wrappers: what is clipped, how large noise is, and what is refused."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from strategies.privacy import epsilon_of, wrapper

WIDTH, CLIENTS, NORM = 20_000, 4, 0.05


@pytest.fixture
def wide_clients(make_client):
    """Clients of very unequal numbers of images, whose updates are larger than the norm."""
    draw = torch.Generator().manual_seed(0)

    def client(samples):
        images = torch.randn(samples, WIDTH, generator=draw, dtype=torch.float64) / WIDTH**0.5
        return make_client(images, 5 * torch.ones(samples).double())

    return [client(samples) for samples in (2, 4, 8, 30)]


def keys(clipping, **more):
    settings = {"clipping": clipping, "noise-multiplier": 0.1, "clipping-norm": NORM, **more}
    return {f"privacy__{name}": value for name, value in settings.items()} | {"strategy": "fedavg"}


def updates_of(run, before):
    stored = run.strategy.local_models
    return [stored.read(client)["weight"] - before for client in stored.versions]


@pytest.mark.parametrize(
    "clipping", ["server-fixed", "client-fixed", "server-adaptive", "client-adaptive"]
)
def test_a_round_is_the_mean_of_clipped_updates_and_noise_of_the_size_asked_for(
    laboratory, wide_clients, clipping
):
    adapts = clipping.endswith("adaptive")
    settings = {"count-noise": 0.06, "quantile-step": 1.0} if adapts else {}
    run = laboratory(wide_clients, **keys(clipping, **settings))
    before = run.state["weight"].clone()
    after = run.round()["weight"]
    updates = updates_of(run, before)
    norms = torch.stack([update.norm() for update in updates])
    if clipping.startswith("client"):
        torch.testing.assert_close(norms, torch.full_like(norms, NORM), rtol=1e-3, atol=0)
    else:
        assert (norms > NORM).all()
    # One client has as much weight as another, however many images it has.
    mean = torch.stack([u * min(1, NORM / float(u.norm())) for u in updates]).mean(0)
    noise = after - before - mean
    # What the noisy count gives away, more noise on the sum makes good (Andrew et al., theorem 1).
    z = (0.1**-2 - (2 * 0.06) ** -2) ** -0.5 if adapts else 0.1
    assert float(noise.std()) == pytest.approx(z * NORM / CLIENTS, rel=0.03)
    assert abs(float(noise.mean())) < 5 * float(noise.std()) / math.sqrt(WIDTH)
    notes = run.strategy.outcome.notes
    assert notes["epsilon"] == epsilon_of(0.1, 1, 1e-5)
    assert notes["clipping_norm"] == NORM
    # All were clipped: the next norm is larger by e^(η·γ), give or take the noise on their number.
    moved = math.exp(0.5) if adapts else 1.0
    assert run.strategy.wrapped.clipping_norm == pytest.approx(NORM * moved, rel=0.1)


def test_noise_cannot_be_drawn_again_and_grows_where_fewer_answer(laboratory, wide_clients):
    run = laboratory(wide_clients, **keys("server-fixed"))
    states = []
    for silent in (None, None, 3):
        np.random.seed(0)
        run.strategy, run.server_round = run.new_strategy(), 0
        run.state = {"weight": torch.zeros(WIDTH).double()}
        run.grid.touch = lambda client, reply, gone=silent: None if client == gone else reply
        before = run.state["weight"]
        noise = run.round()["weight"] - before
        answered = updates_of(run, before)
        noise -= torch.stack([u * min(1, NORM / float(u.norm())) for u in answered]).mean(0)
        assert float(noise.std()) == pytest.approx(0.1 * NORM / len(answered), rel=0.03)
        states.append(noise)
    assert not torch.equal(states[0], states[1])


@pytest.mark.parametrize("clipping", ["server-adaptive", "client-adaptive"])
def test_the_norm_follows_the_quantile_of_the_updates(laboratory, wide_clients, clipping):
    """Far too small, it grows by e^(η·γ) a round until it is where it is to be."""
    settings = {"noise-multiplier": 1e-3, "count-noise": 1e-2, "quantile": 0.5}
    run = laboratory(wide_clients, **keys(clipping, **settings, **{"quantile-step": 0.5}))
    before = run.state["weight"].clone()
    run.round()
    assert run.strategy.wrapped.clipping_norm == pytest.approx(NORM * math.exp(0.25), rel=0.02)
    kept = run.strategy.memory()
    free = laboratory(wide_clients, strategy="fedavg")
    free.round()
    median = float(torch.stack([u.norm() for u in updates_of(free, before)]).median())
    norms = []
    for _ in range(30):
        run.state = {"weight": before.clone()}
        run.round()
        norms.append(run.strategy.wrapped.clipping_norm)
    norms = norms[-8:]
    assert min(norms) < 1.6 * median and max(norms) > median / 1.6
    # A server that was restarted goes on from the norm that the checkpoint has.
    again = run.new_strategy()
    again.restore(kept)
    assert again.wrapped.clipping_norm == pytest.approx(NORM * math.exp(0.25), rel=0.02)


def test_a_client_that_does_not_clip_is_refused_by_name(laboratory, wide_clients):
    run = laboratory(wide_clients, **keys("client-fixed"))

    def unclipped(client, reply):
        if client == 2:
            (name,) = reply.content["arrays"]
            weights = reply.content["arrays"][name].numpy()
            from flwr.app import Array

            reply.content["arrays"][name] = Array(weights * 3)
        return reply

    run.grid.touch = unclipped
    run.round()
    (failure,) = run.strategy.outcome.failures
    assert failure.client == 2 and "norm" in failure.reason


def test_what_was_given_away_is_counted_by_client_and_kept(laboratory, wide_clients, tmp_path):
    """Of the rounds, a client pays for those that it was sampled in."""
    run = laboratory(wide_clients, fraction_train=0.5, **keys("server-fixed", epsilon=1000.0))
    run.rounds(6)
    taken = run.strategy._taken
    assert sum(taken.values()) == 12
    spent = run.strategy.privacy_spent()
    assert spent.releases == max(taken.values()) < 6 == spent.rounds
    assert spent.epsilon == epsilon_of(0.1, spent.releases, 1e-5)
    save_file(run.strategy.memory(), tmp_path / "memory.safetensors")
    again = run.new_strategy()
    again.restore(load_file(tmp_path / "memory.safetensors"))
    assert again.privacy_spent() == spent
    assert not any(value.numel() == WIDTH for value in run.strategy.memory().values())


def test_noise_that_hides_nothing_is_told_without_a_number(laboratory, wide_clients):
    run = laboratory(wide_clients, **keys("server-fixed", **{"noise-multiplier": 1e-5}))
    run.round()
    assert "epsilon" not in run.strategy.outcome.notes
    spent = run.strategy.privacy_spent()
    assert spent.epsilon is None and "ε = infinity" in spent.sentence()


def test_a_budget_is_never_overdrawn(laboratory, wide_clients):
    two, three = (epsilon_of(1.0, releases, 1e-5) for releases in (2, 3))
    settings = {"epsilon": (two + three) / 2, "noise-multiplier": 1.0}
    run = laboratory(wide_clients, **keys("server-fixed", **settings))
    found = []
    while not run.strategy.exhausted:
        run.round()
        found.append(run.strategy.outcome.notes["epsilon"])
    assert found == [epsilon_of(1.0, 1, 1e-5), two]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"strategy": "scaffold"}, "memory of every client"),
        ({"strategy": "fedadam"}, "another rule than the mean"),
        ({"post-training": "fedf2dg"}, "one client at a time"),
        ({"post-training": "head"}, "one client at a time"),
        ({"initial-head": "closed-form"}, "sums of the clients' features"),
        ({"normalization": "measured"}, "pixels"),
        ({"patience": 2}, "chooses a round"),
        ({"global-average": "window"}, "leave it out"),
        ({"personal": "batch-norm"}, "take head"),
        ({"clip-update-norm": 2.0}, "privacy.clipping does it"),
        ({"server-learning-rate": 0.5}, "scale the noise"),
        ({"privacy.clipping": "client-fixed", "freeze": "encoder"}, "server-fixed"),
        (
            {"privacy.clipping": "server-adaptive", "privacy.count-noise": 0.5},
            r"count-noise = 0\.5 .* set privacy\.count-noise=1 ",
        ),
        ({"privacy.epsilon": 0.1}, "one round spends"),
        ({"privacy.clipping": "none", "privacy.epsilon": 3.0}, "privacy.clipping = 'none'"),
    ],
)
def test_what_is_not_accounted_for_is_refused_with_the_reason(values, reason):
    usual = {"strategy": "fedavg", "privacy.clipping": "server-fixed", "model": "resnet8-gn"}
    preflight.parse(usual)
    with pytest.raises(ConfigurationError, match=reason):
        preflight.parse({**usual, **values})


@pytest.mark.parametrize(("clients", "expected"), [(3, 2.0), (100, 5.0)])
def test_the_usual_noise_on_the_count_works_with_any_number_of_clients(clients, expected):
    keys = {"num-clients": clients, "privacy.noise-multiplier": 2.0, "model": "cnn"}
    run = preflight.parse({"strategy": "fedavg", "privacy.clipping": "client-adaptive", **keys})
    wrapped = wrapper(run)
    assert wrapped.clipped_count_stddev == expected
    total = wrapped.noise_multiplier**-2 + (2 * expected) ** -2
    assert total == pytest.approx(2.0**-2)


def test_a_delta_that_protects_nobody_is_said_in_plain_words(app_log):
    preflight.parse(
        {"strategy": "fedavg", "model": "cnn", "num-clients": 4}
        | {"privacy.clipping": "server-fixed", "privacy.delta": 0.25}
    )
    assert "privacy.delta = 0.25 is too large" in app_log.text
    assert "1/num-clients = 0.25" in app_log.text and "privacy.delta=1e-05" in app_log.text
