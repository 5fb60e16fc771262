"""Means and covariances from sums: those of the features in one place, whoever holds them."""

import pytest
import torch
from torch.nn import functional as F

from foundation.models.class_statistics import class_means
from post_training.calibration.gaussians import (
    class_covariances,
    covariance_of_spread,
    oracle_approximating,
    pooled_covariance,
    shrunk,
)

WIDTH = 6
MIXING = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(7)).double()
TRUTH = MIXING.T @ MIXING


def draw(images=200, classes=3, seed=0):
    """Return features of covariance TRUTH within classes, and labels; the last class has none."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes - 1, (images,), generator=generator)
    noise = torch.randn(images, WIDTH, generator=generator, dtype=torch.float64)
    return noise @ MIXING + 3 * labels.unsqueeze(1) - 1, labels


def sums_of(features, labels, classes=3):
    member = F.one_hot(labels, classes).double()
    return member.T @ features, member.sum(0)


def test_the_pooled_covariance_is_that_of_centred_features():
    features, labels = draw()
    sums, counts = sums_of(features, labels)
    found, freedom = pooled_covariance(features.T @ features, sums, counts)
    means = torch.stack([features[labels == c].mean(0) for c in (0, 1)])
    centred = features - means[labels]
    assert freedom == 198
    torch.testing.assert_close(found, centred.T @ centred / 198)
    torch.testing.assert_close(class_means(sums, counts)[:2], means)
    assert not class_means(sums, counts)[2].any()


def test_class_covariances_are_those_of_each_class_and_pool_to_the_pooled_one():
    features, labels = draw()
    sums, counts = sums_of(features, labels)
    moments = torch.stack([features[labels == c].T @ features[labels == c] for c in range(3)])
    found, freedoms = class_covariances(moments, sums, counts)
    for c in (0, 1):
        torch.testing.assert_close(found[c], features[labels == c].T.cov())
    assert not found[2].any() and freedoms[2] == 0
    pooled, freedom = pooled_covariance(moments.sum(0), sums, counts)
    torch.testing.assert_close((freedoms.view(-1, 1, 1) * found).sum(0) / freedom, pooled)


def test_clients_of_one_image_show_in_their_spread_exactly_the_pooled_covariance():
    features, labels = draw()
    sums, counts = sums_of(features, labels)
    moment = features.T @ features
    found, freedom = covariance_of_spread(moment, len(labels), sums, counts)
    expected, same = pooled_covariance(moment, sums, counts)
    assert freedom == same and torch.equal(found, expected)


def test_the_spread_of_means_is_right_on_the_mean_over_draws():
    """Sixteen clients of ten to thirty images: unbiased, though each draw is far off."""
    found = torch.zeros(6, 6, dtype=torch.float64)
    draws = 300
    for seed in range(draws):
        features, labels = draw(images=320, seed=seed)
        sums, counts = sums_of(features, labels)
        products, pairs = torch.zeros(6, 6, dtype=torch.float64), 0
        for rows in torch.arange(320).split([10, 30] * 8):
            own, held = sums_of(features[rows], labels[rows])
            products += own.T @ class_means(own, held)
            pairs += int((held > 0).sum())
        covariance, freedom = covariance_of_spread(products, pairs, sums, counts)
        assert freedom == pairs - 2
        found += covariance / draws
    assert float((found - TRUTH).norm() / TRUTH.norm()) < 0.05


def test_no_more_vectors_than_classes_show_no_spread():
    features, labels = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    sums, counts = sums_of(features, labels)
    with pytest.raises(ValueError, match="2 vectors of 2 classes"):
        pooled_covariance(features.T @ features, sums, counts)


def test_shrinkage_by_its_limits():
    features, _ = draw()
    covariance = features.T.cov()
    torch.testing.assert_close(shrunk(covariance, 0.0), covariance)
    sphere = covariance.diagonal().mean() * torch.eye(6).double()
    torch.testing.assert_close(shrunk(covariance, 1.0), sphere)
    for amount in (0.2, 0.7):
        torch.testing.assert_close(
            shrunk(covariance, amount), (1 - amount) * covariance + amount * sphere
        )


def test_a_matrix_that_noise_has_made_no_covariance_becomes_one():
    matrix = torch.diag(torch.tensor([3.0, 1.0, -0.5]))
    assert float(torch.linalg.eigvalsh(shrunk(matrix, 0.0)).min()) > 0
    with pytest.raises(ValueError, match="do not vary"):
        shrunk(torch.zeros(3, 3), 0.5)


def test_the_weight_goes_to_nothing_with_many_vectors_and_is_whole_for_a_sphere():
    covariance = draw()[0].T.cov()
    weights = [oracle_approximating(covariance, n) for n in (5, 50, 500, 5e6)]
    assert weights == sorted(weights, reverse=True) and weights[-1] < 1e-4
    assert oracle_approximating(torch.eye(4), 100) == 1.0
    # Any multiple of a covariance asks for the same weight.
    assert oracle_approximating(7 * covariance, 50) == pytest.approx(weights[1])


def test_the_chosen_weight_is_nearer_to_the_truth_than_none_and_nearly_the_best():
    truth = torch.diag(torch.linspace(0.5, 3, 20)).double()
    errors = dict.fromkeys(("chosen", "none", *range(11)), 0.0)
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        vectors = torch.randn(30, 20, generator=generator, dtype=torch.float64) @ truth.sqrt()
        sample = vectors.T @ vectors / 30
        amounts = {"chosen": oracle_approximating(sample, 30), "none": 0.0}
        amounts |= {step: step / 10 for step in range(11)}
        for name, amount in amounts.items():
            errors[name] += float((shrunk(sample, amount) - truth).square().sum())
    best = min(errors[step] for step in range(11))
    assert errors["chosen"] < 1.15 * best < errors["none"]
