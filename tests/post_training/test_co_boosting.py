"""Weights of an ensemble: they stay weights, and move against the slope of the cross-entropy."""

import pytest
import torch
from torch.nn import functional as F

from post_training.co_boosting import on_simplex, sign_step, weight_slope


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@pytest.fixture
def answers(draw: torch.Generator) -> torch.Tensor:
    return 2 * torch.randn(40, 5, 3, generator=draw)


LABELS = torch.arange(40) % 3
EQUAL = torch.full((5,), 0.2)


def test_the_simplex_holds_its_own_points_and_gets_the_nearest_of_others(draw):
    inside = torch.tensor([0.5, 0.2, 0.3])
    assert torch.allclose(on_simplex(inside), inside)
    assert torch.allclose(on_simplex(inside + 7.0), inside)  # along the normal
    assert torch.equal(on_simplex(torch.tensor([5.0, 0.0, -1.0])), torch.tensor([1.0, 0.0, 0.0]))
    for _ in range(20):
        values = 3 * torch.randn(6, generator=draw)
        nearest = on_simplex(values)
        assert nearest.min() >= 0 and nearest.sum() == pytest.approx(1.0, abs=1e-5)
        others = torch.distributions.Dirichlet(torch.ones(6)).sample((200,))
        assert ((others - values).norm(dim=1) >= (nearest - values).norm() - 1e-5).all()


def test_the_slope_is_that_of_the_cross_entropy(answers):
    weights = torch.tensor([0.1, 0.4, 0.0, 0.3, 0.2], requires_grad=True)
    loss = F.cross_entropy(torch.einsum("k,nkc->nc", weights, answers), LABELS)
    (expected,) = torch.autograd.grad(loss, weights)
    found = weight_slope(weights.detach(), answers, LABELS)
    assert torch.allclose(found.float(), expected, atol=1e-6)


def test_a_step_stays_on_the_simplex_and_lowers_the_loss(answers):
    def loss(weights: torch.Tensor) -> float:
        return F.cross_entropy(torch.einsum("k,nkc->nc", weights, answers), LABELS).item()

    now = EQUAL
    for _ in range(60):
        now = sign_step(now, answers, LABELS, 0.01)
        assert now.min() >= 0 and now.sum() == pytest.approx(1.0, abs=1e-5)
    assert loss(now) < loss(EQUAL)


def test_members_that_say_the_same_keep_equal_weights(answers):
    same = answers[:, :1].expand(-1, 5, -1)
    assert torch.allclose(sign_step(EQUAL, same, LABELS, 0.05), EQUAL)
    assert torch.equal(sign_step(EQUAL, answers, LABELS, 0.0), EQUAL)


def test_a_member_that_is_right_gains_from_one_that_is_wrong():
    right = 3.0 * F.one_hot(LABELS, 3).float()
    both = torch.stack([right, -right], dim=1)
    moved = sign_step(torch.tensor([0.5, 0.5]), both, LABELS, 0.1)
    assert torch.allclose(moved, torch.tensor([0.6, 0.4]))
