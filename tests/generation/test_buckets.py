"""Batches are filled up to few sizes, and nobody could tell from the images that were asked for."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from foundation.settings import Form
from generation import InversionSettings, generate
from generation.buckets import Batch, bucket
from generation.engine import InversionEngine, Objective
from generation.statistics_layer import Measured, freeze_statistics
from tests.generation.test_inversion import SHAPE, plain, residual_model, tiny_model


def test_buckets_are_few_and_little_larger_than_what_they_hold() -> None:
    for count in range(1, 3000):
        size = bucket(count)
        assert size >= count and size % 8 == 0
        assert size - count < max(8, count / 4)
        assert bucket(size) == size
    # Four for every doubling: ten times as many images are a factor of 2 to the 3.3.
    assert len({bucket(count) for count in range(100, 1001)}) <= 4 * 3.4 + 1


@pytest.mark.parametrize("form", ["corrected", "reference"])
@pytest.mark.parametrize("competition_weight", [0.0, 10.0])
def test_images_that_fill_a_batch_change_neither_objective_nor_gradients(
    form: Form, competition_weight: float
) -> None:
    """In double precision, so that nothing hides behind rounding."""
    settings = plain(form=form, l2_weight=0.1, competition_weight=competition_weight)
    local, other = (residual_model(seed).double().eval() for seed in (0, 5))
    measured = Measured()
    freeze_statistics(local, measured)
    objective = Objective(local, other, settings, measured)
    torch.manual_seed(0)
    images, labels = torch.randn(11, *SHAPE, dtype=torch.float64), torch.arange(11) % 4

    def value_and_gradient(batch: Batch) -> tuple[Tensor, Tensor]:
        leaf = batch.images.clone().requires_grad_()
        weights = None if batch.weights is None else batch.weights.double()
        if weights is not None:  # 1/11 in float32 is not 1/11
            weights = (weights > 0) / torch.tensor(11.0, dtype=torch.float64)
        value = objective(leaf, batch.labels, weights)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient

    filled = Batch.filled(images, labels)
    assert len(filled.labels) == 16
    # What fills it may be anything.
    filled.images[11:] = 100 * torch.randn(5, *SHAPE, dtype=torch.float64)
    expected, wanted = value_and_gradient(Batch(images, labels))
    value, gradient = value_and_gradient(filled)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[:11], wanted)
    assert not gradient[11:].any()


def test_ten_budgets_need_few_sizes_and_give_the_same_images() -> None:
    model = tiny_model(0)
    plainly, bucketed = (InversionEngine(model, SHAPE, plain(iterations=5)) for _ in range(2))
    bucketed.bucketed = True
    budgets = range(33, 43)
    for count in budgets:
        labels = torch.arange(count) % 3
        expected = plainly.invert(model, labels, seed=count)
        got = bucketed.invert(model, labels, seed=count)
        torch.testing.assert_close(got.images, expected.images, rtol=1e-4, atol=1e-4)
        assert got.objective == pytest.approx(expected.objective, rel=1e-4)
    assert bucketed.batch_sizes == {40, 48}
    # Without CUDA graphs nothing is filled up: not a bit is other than it was.
    assert plainly.batch_sizes == set(budgets)


def test_every_generation_of_a_run_is_compiled_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled code lives as long as the process, and of one function only so many versions."""
    # The compiler's front end alone, where the limit is: no C++ compiler is needed.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    settings = InversionSettings(iterations=2, compile="on", precision="float32")
    limit = 2
    compiled: list[int] = []
    with torch._dynamo.config.patch(recompile_limit=limit):
        for seed in range(limit + 2):
            torch._dynamo.utils.counters.clear()
            generate(
                tiny_model,
                budgets=[3, 2],
                label_counts=None,
                image_shape=SHAPE,
                settings=settings,
                classes=3,
                seed=seed,
            )
            compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert compiled == [1] * (limit + 2)


def test_a_closed_engine_holds_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[torch.device] = []
    monkeypatch.setattr("generation.engine.release_memory", released.append)
    engine = InversionEngine(tiny_model(0), SHAPE, plain())
    engine.close()
    assert released == [torch.device("cpu")]
    assert not [value for value in vars(engine).values() if isinstance(value, nn.Module)]
