"""The strategies are Flower strategies: Flower's own ``start`` drives them."""

from __future__ import annotations

import pytest
import torch

from foundation.messages.records import to_record


@pytest.mark.parametrize(
    "name", ["fedavg", "fedprox", "scaffold", "fednova", "moon", "local", "centralized"]
)
def test_flowers_own_loop_gives_the_same_model_as_the_apps(laboratory, curved_clients, name):
    keys = {"strategy": name, "fraction_train": 0.75}
    expected = laboratory(curved_clients, **keys).rounds(2)
    run = laboratory(curved_clients, **keys)
    evaluated = []
    result = run.strategy.start(
        run.grid,
        to_record(run.state),
        num_rounds=2,
        evaluate_fn=lambda number, arrays: evaluated.append(number),
    )
    assert torch.equal(result.arrays.to_torch_state_dict()["weight"], expected)
    assert evaluated == [0, 1, 2]
    assert sorted(result.train_metrics_clientapp) == [1, 2]
    for metrics in result.train_metrics_clientapp.values():
        assert metrics["clients"] == (1 if name == "centralized" else 3)
        assert metrics["failures"] == 0
