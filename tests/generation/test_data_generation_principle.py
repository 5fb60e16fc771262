"""Budgets and labels of the data generation principle."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from generation import (
    InversionSettings,
    PseudoData,
    UninvertibleModel,
    budgets,
    class_balanced,
    draw_labels,
    generate,
    quality,
    quality_losses,
    shares,
)

clients = st.lists(st.integers(0, 10_000), min_size=1, max_size=30).filter(lambda n: sum(n) > 0)


@given(clients, st.integers(0, 100_000))
def test_first_budgets_are_exact_and_proportional(num_examples: list[int], images: int) -> None:
    result = budgets(images, num_examples)
    assert sum(result) == images
    for budget, count in zip(result, num_examples, strict=True):
        assert abs(budget - images * count / sum(num_examples)) < 1 + 1e-6
        assert budget >= 0 and (count > 0 or budget == 0)


@given(clients, st.integers(0, 100_000), st.data())
def test_later_budgets_are_exact_whatever_the_losses(
    num_examples: list[int], images: int, data: st.DataObject
) -> None:
    loss = st.one_of(st.floats(0, 1000), st.just(math.nan))
    losses = data.draw(st.lists(loss, min_size=len(num_examples), max_size=len(num_examples)))
    result = budgets(images, num_examples, losses)
    assert sum(result) == images and min(result) >= 0


def test_budgets_by_hand() -> None:
    assert budgets(640, [1, 1, 2]) == [160, 160, 320]
    assert budgets(10, [1, 1, 1]) == [4, 3, 3]
    # Quality (1/2, 1/2, 0): thirds of it plus two thirds of the shares (1/4, 1/4, 1/2).
    assert budgets(600, [1, 1, 2], [50.0, 50.0, 0.0]) == [200, 200, 200]


def test_quality_is_a_softmax_with_the_unknown_at_the_mean() -> None:
    assert quality([0.0, math.log(3.0)]) == pytest.approx([0.25, 0.75])
    known = quality([1.0, 2.0, 3.0])
    assert quality([1.0, math.nan, 3.0]) == pytest.approx(known)
    assert quality([math.nan, math.nan]) == pytest.approx([0.5, 0.5])
    assert quality([1e5, 0.0]) == pytest.approx([1.0, 0.0])


@given(
    st.integers(0, 500),
    st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(lambda c: sum(c) > 0),
    st.integers(0, 2**63 - 1),
)
def test_labels_follow_the_clients_distribution(budget: int, counts: list[int], seed: int) -> None:
    labels = draw_labels(budget, counts, seed)
    assert len(labels) == budget and labels.dtype == torch.int64
    drawn = np.bincount(labels.numpy(), minlength=len(counts))
    quotas = budget * np.array(counts) / sum(counts)
    assert len(drawn) == len(counts)
    assert np.all(np.abs(drawn - quotas) < 1 + 1e-6)
    assert np.all(drawn[np.array(counts) == 0] == 0)
    assert torch.equal(labels, draw_labels(budget, counts, seed))


def test_rare_labels_come_with_their_probability() -> None:
    hits = sum(int((draw_labels(4, [15, 1], seed) == 1).sum()) for seed in range(4000))
    assert hits / 4000 == pytest.approx(4 / 16, abs=0.03)


@pytest.mark.parametrize(
    "call",
    [
        lambda: shares([]),
        lambda: shares([0, 0]),
        lambda: shares([1, -1]),
        lambda: budgets(5, [1, 2], [0.1]),
        lambda: quality([math.inf]),
        lambda: draw_labels(-1, [1], 0),
        lambda: draw_labels(3, [0, 0], 0),
    ],
)
def test_impossible_arguments_are_refused(call) -> None:
    with pytest.raises(ValueError, match=r"must|clients|class"):
        call()


def tiny_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def test_generation_skips_clients_without_budget_and_asks_for_each_model_once() -> None:
    asked: list[int] = []
    seen: list[tuple[int, int]] = []

    def local_model(client: int) -> nn.Module:
        asked.append(client)
        return tiny_model(client)

    result = generate(
        local_model,
        budgets={0: 4, 1: 0, 2: 1, 3: 7},
        label_counts={0: [1, 1, 0], 1: [0, 0, 1], 2: [0, 5, 0], 3: [0, 0, 9]},
        image_shape=(1, 4, 4),
        settings=InversionSettings(iterations=3, compile="off"),
        classes=3,
        seed=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert asked == [0, 2, 3]
    assert result.data.sources.tolist() == [0] * 4 + [2] + [3] * 7
    assert sorted(result.data.labels[:4].tolist()) == [0, 0, 1, 1]
    assert result.data.labels[4:].tolist() == [1] + [2] * 7
    assert seen[-1] == (36, 36) and sorted(seen) == seen
    model = tiny_model(3).eval()
    with torch.no_grad():
        torch.testing.assert_close(result.data.logits[5:], model(result.data.images[5:]))


def generated(
    local_model: Callable[[int], nn.Module],
    budgets: dict[int, int],
    names: dict[int, str] | None = None,
) -> PseudoData:
    """Three steps for images of 4 by 4 pixels and three classes, of models that tell no counts."""
    return generate(
        local_model,
        budgets=budgets,
        label_counts=None,
        image_shape=(1, 4, 4),
        settings=InversionSettings(iterations=3, compile="off"),
        classes=3,
        seed=4,
        names=names,
    ).data


def test_generation_of_one_client_does_not_depend_on_the_others() -> None:
    alone, beside = (generated(tiny_model, {0: first, 1: 5}) for first in (0, 6))
    assert torch.equal(alone.images, beside.images[6:])


def test_models_that_cannot_be_inverted_go_by_their_clients_names() -> None:
    def broken(client: int) -> nn.Module:
        model = tiny_model(client)
        model[0].weight.data[0] = math.nan
        return model

    with pytest.raises(UninvertibleModel, match=r"inverted\. north: .*; client 1: "):
        generated(broken, {0: 2, 1: 2}, {0: "north", 1: "client 1"})


def test_generation_of_nothing() -> None:
    nothing = generated(tiny_model, {0: 0, 1: 0})
    assert len(nothing) == 0 and nothing.logits.shape == (0, 3)


def test_quality_losses_are_the_global_models_mean_per_client() -> None:
    model = tiny_model(1).train()
    data = PseudoData(
        images=torch.randn(5, 1, 4, 4),
        labels=torch.tensor([0, 1, 2, 0, 1]),
        sources=torch.tensor([2, 0, 2, 0, 0]),
        logits=torch.zeros(5, 3),
    )
    losses = quality_losses(model, data, 3, batch_size=2)
    assert model.training
    with torch.no_grad():
        direct = nn.functional.cross_entropy(
            model.eval()(data.images), data.labels, reduction="none"
        )
    assert losses[0] == pytest.approx(direct[[1, 3, 4]].mean().item(), rel=1e-5)
    assert math.isnan(losses[1])
    assert losses[2] == pytest.approx(direct[[0, 2]].mean().item(), rel=1e-5)


def test_pseudo_data_of_unequal_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        PseudoData(torch.zeros(2, 1, 4, 4), torch.zeros(2), torch.zeros(3), torch.zeros(2, 3))


tables = st.integers(1, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 500), min_size=classes, max_size=classes), min_size=1, max_size=8
    )
)


@given(tables)
def test_balanced_weights_give_every_class_that_somebody_holds_the_same(
    table: list[list[int]],
) -> None:
    counts, weights = np.array(table), class_balanced(table)
    assert np.allclose(weights.sum(0), counts.sum(0) > 0)
    assert np.all((weights > 0) == (counts > 0))
    # Whoever holds twice as many images of a class is asked for twice as many.
    assert np.allclose(weights * counts.sum(0), counts)


def test_equal_classes_are_shared_out_as_the_principle_has_it() -> None:
    counts = [[10, 30], [90, 70]]
    assert budgets(50, class_balanced(counts).sum(1).tolist()) == budgets(50, [40, 160])


def test_a_rare_class_gets_as_many_images_as_any_other() -> None:
    counts = [[900, 2, 0], [100, 0, 300]]
    weights = class_balanced(counts)
    shared_out = budgets(60, weights.sum(1).tolist())
    labels = [draw_labels(n, w, 3) for n, w in zip(shared_out, weights.tolist(), strict=True)]
    assert torch.cat(labels).bincount(minlength=3).tolist() == pytest.approx([20] * 3, abs=1)


@pytest.mark.parametrize("table", [[1, 2], [[1, -1]], [[1, math.nan]]])
def test_tables_that_are_none_are_refused(table: object) -> None:
    with pytest.raises(ValueError, match="label_counts"):
        class_balanced(table)
