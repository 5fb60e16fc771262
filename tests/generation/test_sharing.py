"""Generation shared out over processes: the same images, the same errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from generation import InversionError, InversionSettings, generate
from processes import Workers

SHAPE = (1, 8, 8)


def small_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).eval()


def run(workers, progress=None, local_model=small_model, **settings):
    return generate(
        local_model,
        budgets=[3, 0, 5, 1, 4],
        label_counts=None,
        image_shape=SHAPE,
        settings=InversionSettings(iterations=30, competition_weight=10.0, **settings),
        classes=3,
        global_model=small_model(9),
        pixel_range=([-2.0], [2.0]),
        seed=7,
        progress=progress,
        workers=workers,
    )


def test_processes_give_the_same_images_in_the_same_order():
    seen: list[tuple[int, int]] = []
    with Workers(2) as workers:
        shared = run(workers, progress=lambda done, total: seen.append((done, total)))
    alone = run(None)
    for name in ("images", "labels", "sources", "logits"):
        torch.testing.assert_close(
            getattr(shared.data, name), getattr(alone.data, name), rtol=1e-4, atol=1e-4
        )
    assert shared.data.sources.tolist() == [0] * 3 + [2] * 5 + [3] + [4] * 4
    assert shared.objective == pytest.approx(alone.objective, rel=1e-4)
    assert shared.iterations == alone.iterations == 4 * 30
    done = [each for each, _ in seen]
    assert done == sorted(done) and seen[-1] == (13 * 30, 13 * 30)


def test_one_module_can_hold_every_clients_weights_in_turn():
    """As the server reads models from disk: what waits must not change with what is read next."""
    shell = small_model(0)

    def into_the_shell(client: int) -> nn.Module:
        shell.load_state_dict(small_model(client).state_dict())
        return shell

    with Workers(2) as workers:
        shared = run(workers, local_model=into_the_shell)
    alone = run(None)
    torch.testing.assert_close(shared.data.images, alone.data.images, rtol=1e-4, atol=1e-4)


def test_a_model_that_cannot_be_inverted_says_so_and_the_processes_can_be_used_again():
    def broken(client: int) -> nn.Module:
        model = small_model(client)
        if client == 2:
            nn.init.constant_(model[4].weight, float("nan"))
        return model

    with Workers(2) as workers:
        with pytest.raises(InversionError, match="objective became nan"):
            run(workers, local_model=broken)
        assert len(run(workers).data) == 13
