"""Several classifiers as one."""

import pytest
import torch

from foundation.models import build
from foundation.models.classifier import Ensemble


@pytest.fixture
def members() -> list[torch.nn.Module]:
    return [build("cnn", classes=3, channels=1, image_size=8, seed=s) for s in range(3)]


IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def test_it_says_the_mean_of_its_members(members):
    ensemble = Ensemble(members)
    mean = sum(member(IMAGES) for member in members) / 3
    assert torch.allclose(ensemble(IMAGES), mean, atol=1e-6)
    assert ensemble.answers(IMAGES).shape == (5, 3, 3)


def test_with_all_weight_on_one_it_is_that_one(members):
    ensemble = Ensemble(members, torch.tensor([0.0, 1.0, 0.0]))
    assert torch.allclose(ensemble(IMAGES), members[1](IMAGES), atol=1e-6)


def test_gradients_reach_images_alone(members):
    images = IMAGES.clone().requires_grad_()
    Ensemble(members)(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in members[0].parameters())
