"""Generation shared out over processes: the same images, the same errors."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from foundation.processes import Workers
from generation import InversionSettings, UninvertibleModel, generate

SHAPE = (1, 8, 8)


def small_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).eval()


def run(workers, progress=None, local_model=small_model, **settings):
    return generate(
        local_model,
        budgets={0: 3, 1: 0, 2: 5, 3: 1, 4: 4},
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


def broken(*clients, value=float("nan")):
    """Return models of which some cannot be inverted: a layer is absurd, or not even a number."""

    def local_model(client: int) -> nn.Module:
        model = small_model(client)
        if client in clients:
            nn.init.constant_(model[4].weight, value)
        return model

    return local_model


@pytest.mark.parametrize("value", [float("nan"), 1e30, 1e8], ids=["nan", "overflows", "absurd"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_model_that_cannot_be_inverted_is_left_out_by_name(processes, value):
    seen: list[tuple[int, int]] = []
    with Workers(2) if processes == 2 else nullcontext() as workers:
        generation = run(
            workers, lambda done, total: seen.append((done, total)), broken(2, value=value)
        )
    whole = run(None)
    assert list(generation.failures) == [2]
    assert "objective became" in generation.failures[2] or "logits" in generation.failures[2]
    others = whole.data.sources != 2
    torch.testing.assert_close(
        generation.data.images, whole.data.images[others], rtol=1e-4, atol=1e-4
    )
    assert generation.objectives == pytest.approx(
        {client: whole.objectives[client] for client in (0, 3, 4)}, rel=1e-4
    )
    assert seen[-1] == (13 * 30, 13 * 30)


def test_without_any_model_that_can_be_inverted_it_says_so_and_processes_can_be_used_again():
    with Workers(2) as workers:
        with pytest.raises(UninvertibleModel, match=r"no local model.*client 0: .*client 4: "):
            run(workers, local_model=broken(0, 2, 3, 4))
        assert len(run(workers).data) == 13
