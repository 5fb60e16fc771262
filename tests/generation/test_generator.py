"""The generator's images, and the losses it is trained for, against their definitions."""

import math

import pytest
import torch
from torch.nn import functional as F

from foundation.models import build
from foundation.models.classifier import Ensemble
from generation import InversionError
from generation.generator import (
    NOISE,
    Generator,
    Synthesis,
    Terms,
    class_weighted_losses,
    disagreement,
    hard_sample_weights,
    similarity,
)
from generation.objective import jensen_shannon


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 7, 10), (1, 2, 1)])
def test_images_have_the_wanted_shape_and_lie_in_the_range_of_each_channel(shape, draw):
    low = [-1.0, -0.5, 0.25][: shape[0]]
    high = [1.0, 0.5, 0.75][: shape[0]]
    generator = Generator(shape, 4, (low, high), seed=0)
    images = generator(100 * torch.randn(9, NOISE, generator=draw))
    assert images.shape == (9, *shape)
    for channel in range(shape[0]):
        assert low[channel] <= images[:, channel].min()
        assert images[:, channel].max() <= high[channel]


def test_a_generator_depends_on_its_seed_alone(draw):
    noise = torch.randn(4, NOISE, generator=draw)
    torch.manual_seed(1)
    first = Generator((1, 8, 8), 4, None, seed=7)(noise)
    after = torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(Generator((1, 8, 8), 4, None, seed=7)(noise), first)
    assert not torch.equal(Generator((1, 8, 8), 4, None, seed=8)(noise), first)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)


def test_only_a_conditional_generator_is_moved_by_labels(draw):
    noise, zeros = torch.randn(6, NOISE, generator=draw), torch.zeros(6, dtype=torch.int64)
    ones = torch.tensor([0, 1, 0, 1, 0, 1])
    plain = Generator((1, 8, 8), 4, None, seed=0)
    assert torch.equal(plain(noise, zeros), plain(noise, ones))
    told = Generator((1, 8, 8), 4, None, classes=2, seed=0)
    assert not torch.allclose(told(noise, zeros)[1], told(noise, ones)[1])


def test_hard_sample_weights_are_one_without_gamma_and_fall_with_certainty():
    logits = torch.tensor([[4.0, 0.0], [0.0, 0.0], [0.0, 4.0]], requires_grad=True)
    labels = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(hard_sample_weights(logits, labels, 0.0), torch.ones(3))
    weights = hard_sample_weights(logits, labels, 1.0)
    assert weights[0] < weights[1] < weights[2]
    assert weights[1] == pytest.approx(0.5)
    assert not weights.requires_grad
    assert torch.allclose(hard_sample_weights(logits, labels, 2.0), weights.square())


def test_disagreement_is_none_between_equals_and_counts_only_wrong_ones_if_told(draw):
    student = torch.randn(50, 4, generator=draw)
    teacher = torch.randn(50, 4, generator=draw)
    assert disagreement(teacher, teacher + 3.0).item() == pytest.approx(0.0, abs=1e-6)
    by_definition = (teacher.softmax(1) * (teacher.log_softmax(1) - student.log_softmax(1))).sum(1)
    assert disagreement(student, teacher).item() == pytest.approx(by_definition.mean().item())
    differ = student.argmax(1) != teacher.argmax(1)
    assert disagreement(student, teacher, only_where_wrong=True).item() == pytest.approx(
        (by_definition * differ).sum().item() / 50
    )


def test_a_high_temperature_does_not_make_the_disagreement_small(draw):
    # The limit of T²·KL is half the variance of z - s over the classes (Hinton et al. 2015, eq. 4).
    student, teacher = torch.randn(2, 50, 4, generator=draw, dtype=torch.float64)
    half_variance = (teacher - student).var(dim=1, correction=0).mean() / 2
    assert disagreement(student, teacher, 1e3).item() == pytest.approx(half_variance.item(), 1e-2)


def test_similarity_is_one_for_equal_images_and_less_the_further_they_are_apart(draw):
    noise = torch.randn(8, 5, generator=draw)
    images = torch.randn(8, 1, 4, 4, generator=draw)
    assert similarity(noise, images[:1].expand(8, -1, -1, -1)).item() == pytest.approx(1.0)
    near, far = similarity(noise, images).item(), similarity(noise, 3 * images).item()
    assert 0 < far < near < 1
    distances = (images.flatten(1)[:, None] - images.flatten(1)).abs().mean(2)
    apart = (noise[:, None] - noise).square().mean(2)
    assert near == pytest.approx(math.exp(-(distances * apart).mean()), rel=1e-5)


def test_with_one_client_the_weighted_losses_are_the_plain_ones(draw):
    answers = torch.randn(20, 1, 3, generator=draw)
    student = torch.randn(20, 3, generator=draw)
    labels = torch.arange(20) % 3
    entropy, discrepancy = class_weighted_losses(answers, student, labels, torch.ones(20, 1))
    assert entropy.item() == pytest.approx(F.cross_entropy(answers[:, 0], labels).item())
    assert discrepancy.item() == pytest.approx(jensen_shannon(answers[:, 0], student, 1.0).item())
    _, none = class_weighted_losses(answers, answers[:, 0], labels, torch.ones(20, 1))
    assert none.item() == pytest.approx(0.0, abs=1e-6)


def test_a_client_without_a_class_has_no_part_in_its_losses(draw):
    answers = torch.randn(20, 2, 3, generator=draw)
    student, labels = torch.randn(20, 3, generator=draw), torch.arange(20) % 3
    weights = torch.tensor([[1.0, 0.0]]).expand(20, 2)
    changed = answers.clone()
    changed[:, 1] += 5 * torch.randn(20, 3, generator=draw)
    for one, other in zip(
        class_weighted_losses(answers, student, labels, weights),
        class_weighted_losses(changed, student, labels, weights),
        strict=True,
    ):
        assert torch.equal(one, other)


def _resnets(count: int) -> list[torch.nn.Module]:
    """Return models with random weights, whose predictions differ enough to be optimised."""
    models = []
    for seed in range(count):
        model = build("resnet8", classes=3, channels=1, image_size=8, seed=seed).eval()
        model.head.weight.data.mul_(30.0)
        models.append(model)
    return models


def _synthesis(ensemble: Ensemble, terms: Terms, **other: object) -> Synthesis:
    return Synthesis(
        ensemble,
        terms,
        **{
            "shape": (1, 8, 8),
            "pixel_range": ((-1.0,), (1.0,)),
            "steps": 25,
            "learning_rate": 0.01,
            "width": 8,
            "device": torch.device("cpu"),
            **other,
        },
    )


def test_made_images_are_taken_for_their_classes_more_than_noise_is():
    models = _resnets(3)
    ensemble, labels = Ensemble(models[:2]), torch.arange(12) % 3
    before = [value.clone() for value in ensemble.state_dict().values()]
    made, _ = _synthesis(ensemble, Terms()).make(models[2], labels, seed=3)
    again, _ = _synthesis(ensemble, Terms()).make(models[2], labels, seed=3)
    assert torch.equal(made, again)
    reached = F.cross_entropy(ensemble(made), labels)
    assert reached < 0.7 * F.cross_entropy(ensemble(torch.randn(12, 1, 8, 8)), labels)
    assert made.abs().max() <= 1.0
    assert all(
        torch.equal(a, b) for a, b in zip(before, ensemble.state_dict().values(), strict=True)
    )


def test_terms_that_weigh_more_are_met_better():
    models = _resnets(3)
    ensemble, labels = Ensemble(models[:2]), torch.arange(12) % 3

    def apart(terms: Terms) -> float:
        images, _ = _synthesis(ensemble, terms).make(models[2], labels, seed=3)
        with torch.no_grad():
            return disagreement(models[2](images), ensemble(images)).item()

    assert apart(Terms(disagreement_weight=5.0)) > apart(Terms())


def test_weights_of_the_ensemble_are_those_of_the_call():
    models = _resnets(3)
    labels, only = torch.arange(12) % 3, torch.tensor([1.0, 0.0])
    two, _ = _synthesis(Ensemble(models[:2]), Terms()).make(models[2], labels, seed=3, weights=only)
    one, _ = _synthesis(Ensemble(models[:1]), Terms()).make(models[2], labels, seed=3)
    assert torch.allclose(two, one, atol=1e-4)


def test_an_objective_that_is_no_number_is_said():
    models = _resnets(2)
    with torch.no_grad():
        next(models[0].parameters()).fill_(torch.nan)
    with pytest.raises(InversionError, match="generator-learning-rate"):
        _synthesis(Ensemble(models[:1]), Terms()).make(models[1], torch.arange(4) % 3, seed=0)
