"""Optional protections: clipped updates, noised label counts."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord

from foundation.models.aggregation import clip_factors, scaled_update, update_norm
from foundation.settings.configuration import RunConfiguration
from questions.label_counts import noised_counts, shareable_counts


def test_factors_bound_norms_by_a_multiple_of_the_median() -> None:
    norms = [1.0, 2.0, 3.0, 4.0, 1e9]
    factors = clip_factors(norms, 1.5)
    assert factors[:4] == [1.0] * 4
    assert max(n * f for n, f in zip(norms, factors, strict=True)) == pytest.approx(4.5)
    assert clip_factors([0.0, 0.0, 5.0], 2) == [1.0] * 3, "no measure, no bound"
    assert clip_factors([7.0], 1) == [1.0]


def test_a_scaled_update_has_the_scaled_norm_and_its_own_buffers() -> None:
    start = {"w": torch.randn(3, 4), "mean": torch.zeros(2)}
    end = {"w": torch.randn(3, 4), "mean": torch.ones(2)}
    scaled = scaled_update(start, end, ["w"], 0.25)
    assert update_norm(start, scaled, ["w"]) == pytest.approx(
        0.25 * update_norm(start, end, ["w"]), rel=1e-6
    )
    assert torch.equal(scaled["mean"], end["mean"])
    assert torch.equal(scaled["w"] > start["w"], end["w"] > start["w"])


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "fednova", "fedprox"])
def test_one_poisoned_client_moves_the_model_no_further_than_the_bound(
    laboratory, curved_clients, strategy
) -> None:
    def poison(client, reply):
        if client == 2:
            state = dict(reply.content["arrays"].to_torch_state_dict())
            reply.content["arrays"] = ArrayRecord({n: v + 1e12 for n, v in state.items()})
        return reply

    steps = {}
    for clip in (0.0, 1.0):
        run = laboratory(curved_clients, strategy=strategy, clip_update_norm=clip)
        run.grid.touch = poison
        run.round()
        steps[clip] = float(run.state["weight"].norm())
    assert steps[0.0] > 1e10
    assert steps[1.0] < 50
    assert run.strategy.outcome.notes["clipped"] >= 1


def test_what_is_kept_of_a_clipped_client_is_what_was_averaged(laboratory, curved_clients) -> None:
    """It is what the post-training methods invert."""

    def poison(client, reply):
        if client == 2:
            state = dict(reply.content["arrays"].to_torch_state_dict())
            reply.content["arrays"] = ArrayRecord({n: v + 1e12 for n, v in state.items()})
        return reply

    run = laboratory(curved_clients, strategy="fedavg", clip_update_norm=1.0)
    before = run.state
    run.grid.touch = poison
    run.round()
    kept = [run.strategy.local_models.read(client) for client in range(4)]
    norms = [update_norm(before, state, ["weight"]) for state in kept]
    assert max(norms) < 50
    total = sum(client.samples for client in curved_clients)
    average = sum(
        client.samples / total * state["weight"]
        for client, state in zip(curved_clients, kept, strict=True)
    )
    torch.testing.assert_close(average, run.state["weight"], rtol=1e-9, atol=1e-12)


def test_honest_clients_are_not_touched_by_a_wide_bound(laboratory, curved_clients) -> None:
    plain = laboratory(curved_clients, strategy="scaffold").rounds(5)
    wide = laboratory(curved_clients, strategy="scaffold", clip_update_norm=100.0).rounds(5)
    assert torch.equal(plain, wide)


def test_noise_has_laplaces_spread_and_never_gives_a_negative_or_empty_answer() -> None:
    random = np.random.default_rng(0)
    counts = [1000] * 4000
    noise = np.array(noised_counts(counts, 3.0, random)) - 1000
    assert abs(noise.mean()) < 0.3
    assert noise.std() == pytest.approx(math.sqrt(2) * 3.0, rel=0.05)
    for _ in range(200):
        noised = noised_counts([0, 0, 1], 5.0, random)
        assert min(noised) >= 0
        assert sum(noised) > 0


def test_what_a_client_may_tell() -> None:
    def told(kind: str, before: list[int] | None = None) -> list[int] | None:
        configuration = RunConfiguration.parse({"label-counts": kind, "label-counts-noise": 50.0})
        data = SimpleNamespace(label_counts=lambda: np.array([400, 100, 0]))
        memory = {} if before is None else {"label-counts": before}
        site = SimpleNamespace(configuration=configuration, data=lambda: data, memory=memory)
        return shareable_counts(site)

    assert told("uploaded") == [400, 100, 0]
    assert told("uniform") is None
    first = told("noised")
    assert first != [400, 100, 0]
    assert told("noised", first) == first, "asked again, the noise must not average out"
    assert any(told("noised") != first for _ in range(5)), "and nobody can compute it"
