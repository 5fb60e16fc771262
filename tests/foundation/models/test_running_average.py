"""Averages of the last models, against their formulas."""

import pytest
import torch

from foundation.models import StateLayout
from foundation.models.aggregation import RunningAverage

LAYOUT = StateLayout(("weight",), ("mean",), ("count",))


def models(count):
    draw = torch.Generator().manual_seed(1)
    return [
        {
            "weight": torch.randn(4, generator=draw),
            "mean": torch.randn(2, generator=draw),
            "count": torch.tensor(k),
        }
        for k in range(count)
    ]


@pytest.mark.parametrize("seen", [1, 2, 3, 7])
def test_a_window_is_the_mean_of_the_last_models(seen):
    average = RunningAverage("window", 3, LAYOUT)
    states = models(seen)
    for state in states:
        average.add(state)
    result = average.of(states[-1])
    expected = torch.stack([state["weight"] for state in states[-3:]]).mean(0)
    torch.testing.assert_close(result["weight"], expected)
    assert torch.equal(result["mean"], states[-1]["mean"])
    assert torch.equal(result["count"], states[-1]["count"])


def test_geometric_weights_fall_by_one_minus_one_over_k():
    average = RunningAverage("geometric", 4, LAYOUT)
    states = models(6)
    for state in states:
        average.add(state)
    weights = torch.tensor([0.75**age for age in range(5, -1, -1)])
    stacked = torch.stack([state["weight"] for state in states])
    expected = (weights[:, None] * stacked).sum(0) / weights.sum()
    torch.testing.assert_close(average.of(states[-1])["weight"], expected)


@pytest.mark.parametrize("kind", ["window", "geometric"])
def test_one_round_is_the_last_model_and_equal_models_are_their_own_average(kind):
    states = models(5)
    alone, equal = RunningAverage(kind, 1, LAYOUT), RunningAverage(kind, 3, LAYOUT)
    for state in states:
        alone.add(state)
        equal.add(states[0])
    assert torch.equal(alone.of(states[-1])["weight"], states[-1]["weight"])
    torch.testing.assert_close(equal.of(states[0])["weight"], states[0]["weight"])


@pytest.mark.parametrize("kind", ["window", "geometric"])
def test_it_goes_on_from_its_memory(kind):
    whole, first, second = (RunningAverage(kind, 3, LAYOUT) for _ in range(3))
    states = models(6)
    for state in states:
        whole.add(state)
    for state in states[:4]:
        first.add(state)
    second.restore(first.memory())
    for state in states[4:]:
        second.add(state)
    assert torch.equal(second.of(states[-1])["weight"], whole.of(states[-1])["weight"])
