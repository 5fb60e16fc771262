"""Heads in closed form: the same at any division, and what their definitions say."""

import math

import pytest
import torch
from torch.nn import functional as F

from foundation.models.classifier import LinearHead
from foundation.models.closed_form import (
    FeatureSums,
    cross_validated,
    likely_temperature,
    nearest_mean_head,
    regularised_discriminant,
    ridge_head,
    shrunk_towards,
    temperatures,
)
from post_training.calibration.gaussians import pooled_covariance, shrunk
from post_training.calibration.refitted_head import discriminant_head

CLASSES, WIDTH = 4, 12


def images(each: int = 30, width: int = WIDTH, offset: float = 0.0):
    torch.manual_seed(3)
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor([each, 2 * each, each, 3]))
    centers = torch.randn(CLASSES, width).double()
    mixing = torch.randn(width, width).double()
    noise = torch.randn(len(labels), width).double() @ mixing / math.sqrt(width)
    return centers[labels] + noise + offset, labels


def sums_of(features, labels) -> FeatureSums:
    member = F.one_hot(labels, CLASSES).double()
    return FeatureSums(features.T @ features, member.T @ features, member.sum(0))


def heads_of(sums: FeatureSums) -> list[LinearHead]:
    r = cross_validated(sums)
    return [
        *(ridge_head(sums, r, balanced) for balanced in (False, True)),
        *(regularised_discriminant(sums, r, balanced) for balanced in (False, True)),
        nearest_mean_head(sums),
    ]


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("clients", [2, 7, 50])
def test_a_head_is_the_same_however_the_images_lie_with_the_clients(clients, offset):
    """Each class goes to the clients in random shares, many of them 0."""
    features, labels = images(offset=offset)
    draw = torch.distributions.Dirichlet(torch.full((clients,), 0.05))
    owner = torch.stack([torch.distributions.Categorical(draw.sample()).sample() for _ in labels])
    parts = [
        sums_of(features[owner == client], labels[owner == client]) for client in range(clients)
    ]
    pooled = FeatureSums(*(torch.stack(p).sum(0) for p in zip(*map(fields_of, parts), strict=True)))
    for ours, theirs in zip(heads_of(pooled), heads_of(sums_of(features, labels)), strict=True):
        mine, other = (head.logits(features) for head in (ours, theirs))
        mine, other = mine - mine.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
        assert float((mine - other).abs().max()) < 1e-6 * float(other.abs().max())


def fields_of(sums: FeatureSums):
    return sums.moment, sums.sums, sums.counts


@pytest.mark.parametrize("strength", [1e-3, 1.0, 100.0])
def test_ridge_regression_minimises_what_it_says(strength):
    features, labels = images()
    head = ridge_head(sums_of(features, labels), strength)
    weight, bias = head.weight.clone().requires_grad_(), head.bias.clone().requires_grad_()
    errors = features @ weight.T + bias - F.one_hot(labels, CLASSES)
    (errors.square().sum() + strength * weight.square().sum()).backward()
    assert float(weight.grad.abs().max()) < 1e-8 and float(bias.grad.abs().max()) < 1e-8


def test_a_discriminant_is_that_of_the_shrunk_covariance():
    features, labels = images()
    sums, strength = sums_of(features, labels), 20.0
    covariance, _ = pooled_covariance(sums.moment, sums.sums, sums.counts)
    amount = strength / (strength + float(sums.within.values.mean()))
    balanced = regularised_discriminant(sums, strength, balanced=True)
    theirs = discriminant_head(sums.means, shrunk(covariance, amount), torch.ones(CLASSES))
    quotient = theirs.weight / balanced.weight
    torch.testing.assert_close(quotient, quotient.mean().expand_as(quotient))
    assert torch.equal(balanced.logits(features).argmax(1), theirs.logits(features).argmax(1))
    with_shares = regularised_discriminant(sums, strength)
    torch.testing.assert_close(with_shares.bias - balanced.bias, sums.shares.log())


def test_the_nearest_mean_is_nearest():
    features, labels = images()
    sums = sums_of(features, labels)
    nearest = torch.cdist(features, sums.means).argmin(1)
    assert torch.equal(nearest_mean_head(sums).logits(features).argmax(1), nearest)


def test_the_strength_is_that_of_generalised_cross_validation_with_images():
    """By its definition: with the hat matrix of the images themselves."""
    features, labels = images()
    n = len(labels)
    centred = features - features.mean(0)
    targets = F.one_hot(labels, CLASSES).double()
    targets = targets - targets.mean(0)

    def score(strength: float) -> float:
        gram = centred.T @ centred + strength * torch.eye(WIDTH)
        hat = centred @ torch.linalg.solve(gram, centred.T)
        freedom = 1 + float(hat.trace())
        return float((targets - hat @ targets).square().sum()) / n / (1 - freedom / n) ** 2

    found = cross_validated(sums_of(features, labels))
    mean_value = float(sums_of(features, labels).total.values.mean())
    tried = (torch.logspace(-4, 2, 61, dtype=torch.float64) * mean_value).tolist()
    assert score(found) <= min(map(score, tried)) * (1 + 1e-9)


@pytest.mark.parametrize("width", [12, 400])
def test_more_features_than_images_and_a_class_of_one_image(width):
    features, labels = images(each=10, width=width)
    rows = torch.cat([torch.arange(len(labels) - 3), torch.tensor([len(labels) - 1])])
    sums = sums_of(features[rows], labels[rows])
    assert int(sums.counts[-1]) == 1
    for head in heads_of(sums):
        assert head.weight.isfinite().all() and head.bias.isfinite().all()
    right = heads_of(sums)[2].logits(features).argmax(1) == labels
    assert float(right.double().mean()) > 0.9


def test_images_that_do_not_differ_are_refused():
    sums = sums_of(torch.zeros(8, WIDTH).double(), torch.arange(CLASSES).repeat(2))
    with pytest.raises(ValueError, match="all images have the same features"):
        cross_validated(sums)


def start_head() -> LinearHead:
    torch.manual_seed(8)
    features, labels = images(each=200)
    sums = sums_of(features + 0.5, labels)
    return ridge_head(sums, cross_validated(sums)).scaled(7.0)


def test_a_head_between_another_and_the_own_images_is_what_its_definition_says():
    """By the plain solution over the images: D makes the gradient of its objective vanish."""
    features, labels = images()
    start = start_head()
    head, strength = shrunk_towards(sums_of(features, labels), start)
    size = features.square().mean().sqrt()
    inputs = torch.cat([features, size.expand(len(features), 1)], 1)
    targets = F.one_hot(labels, CLASSES).double() - 1 / CLASSES
    logits = start.logits(features)
    logits = logits - logits.mean(1, keepdim=True)
    scale = (targets * logits).sum() / logits.square().sum()
    design = inputs.T @ inputs + strength * torch.eye(inputs.shape[1]).double()
    change = torch.linalg.solve(design, inputs.T @ (targets - scale * logits))
    expected = logits + inputs @ change / scale
    found = head.logits(features)
    torch.testing.assert_close(found - found.mean(1, keepdim=True), expected)
    # The strength is the best of the grid by the definition of generalised cross-validation.
    hat = inputs @ torch.linalg.solve(design, inputs.T)
    left = (targets - scale * logits) - hat @ (targets - scale * logits)
    score = left.square().sum() / (1 - hat.trace() / len(inputs)) ** 2
    for other in (strength / 2, strength * 2):
        shifted = design + (other - strength) * torch.eye(inputs.shape[1]).double()
        hat = inputs @ torch.linalg.solve(shifted, inputs.T)
        left = (targets - scale * logits) - hat @ (targets - scale * logits)
        assert score <= left.square().sum() / (1 - hat.trace() / len(inputs)) ** 2


def test_a_head_held_by_another_keeps_its_scale_and_does_not_follow_one_that_says_nothing():
    features, labels = images()
    start = start_head()
    head, _ = shrunk_towards(sums_of(features, labels), start)
    twice, _ = shrunk_towards(sums_of(features, labels), start.scaled(2.0))
    torch.testing.assert_close(twice.weight, 2 * head.weight)
    torch.testing.assert_close(twice.bias, 2 * head.bias)
    wrong = start.scaled(-1.0)
    same, strength = shrunk_towards(sums_of(features, labels), wrong)
    assert same is wrong and strength == math.inf


def test_the_usual_temperatures_serve_usual_heads_and_no_head_is_too_large() -> None:
    assert temperatures(0.0) == temperatures(500.0) == tuple(2.0**k for k in range(-2, 10))
    assert max(temperatures(3e6)) >= 3e6
    assert len(temperatures(float("inf"))) == len(temperatures(0.0))


def test_more_features_than_images_do_not_make_a_head_surer_than_it_is() -> None:
    """Half of the images that judge have another class's label: no answer is worth a high price."""
    torch.manual_seed(0)
    features = torch.randn(60, 400).double() + 0.1
    labels = torch.arange(60) % CLASSES
    features[:, 0] += 5.0 * labels
    sums = sums_of(features, labels)
    head = regularised_discriminant(sums, 1e-4 * float(sums.total.values.mean()))
    judged = torch.randn(40, 400).double() + 0.1
    truth = torch.arange(40) % CLASSES
    judged[:, 0] += 5.0 * truth
    told = torch.where(torch.arange(40) < 20, (truth + 1) % CLASSES, truth)
    logits = head.logits(judged)

    def loss(temperature: float) -> float:
        return float(F.cross_entropy(logits / temperature, told, reduction="sum"))

    taken = likely_temperature({t: loss(t) for t in temperatures(sums.spread(head))})
    assert loss(taken) <= 40 * math.log(CLASSES) + 2.0 < loss(512.0)
