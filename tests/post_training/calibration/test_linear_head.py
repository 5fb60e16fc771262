"""Heads in closed form and by training: what is known of Gaussian features, and limits."""

import pytest
import torch
from torch.nn import functional as F

from foundation.models.class_statistics import class_means
from foundation.models.classifier import LinearHead, logit_spread
from post_training.calibration.gaussians import pooled_covariance
from post_training.calibration.refitted_head import (
    discriminant_head,
    trained_head,
    virtual_features,
)


@pytest.fixture
def problem():
    """Return means (3, 4), a covariance and shares of a problem with a known best head."""
    torch.manual_seed(3)
    root = torch.randn(4, 4, dtype=torch.float64)
    return (
        torch.randn(3, 4).double(),
        root @ root.T + torch.eye(4),
        torch.tensor([0.2, 0.3, 0.5]).double(),
    )


def densities(features, means, covariance):
    gaussians = torch.distributions.MultivariateNormal(means.unsqueeze(0), covariance)
    return gaussians.log_prob(features.unsqueeze(1))


def test_the_discriminant_is_bayes_rule_for_gaussians(problem):
    means, covariance, shares = problem
    features, _ = virtual_features(means, covariance, 20, 0)
    expected = (densities(features, means, covariance) + shares.log()).softmax(1)
    found = discriminant_head(means, covariance, shares).logits(features).softmax(1)
    torch.testing.assert_close(found, expected)


def test_with_a_sphere_and_equal_shares_it_is_the_nearest_mean(problem):
    means, _, _ = problem
    features = torch.randn(50, 4, dtype=torch.float64)
    head = discriminant_head(means, 2.5 * torch.eye(4), torch.ones(3) / 3)
    assert torch.equal(head.logits(features).argmax(1), torch.cdist(features, means).argmin(1))


def test_features_in_other_coordinates_get_the_same_logits(problem):
    means, covariance, shares = problem
    turn = torch.randn(4, 4, dtype=torch.float64)
    features = torch.randn(9, 4, dtype=torch.float64)
    plain = discriminant_head(means, covariance, shares).logits(features)
    turned = discriminant_head(means @ turn, turn.T @ covariance @ turn, shares)
    torch.testing.assert_close(turned.logits(features @ turn), plain)


@pytest.mark.parametrize("each", [False, True])
def test_virtual_features_have_the_means_and_covariances(problem, each):
    means, covariance, _ = problem
    covariances = torch.stack([covariance * size for size in (1, 2, 3)]) if each else covariance
    features, labels = virtual_features(means, covariances, 20_000, 1)
    for c in range(3):
        own = features[labels == c]
        wanted = covariances[c] if each else covariance
        assert float((own.mean(0) - means[c]).norm()) < 0.1
        assert float((own.T.cov() - wanted).norm() / wanted.norm()) < 0.05
    again, _ = virtual_features(means, covariances, 20_000, 1)
    assert torch.equal(features, again)


def test_a_head_trained_on_gaussians_of_one_covariance_nears_the_discriminant(problem):
    means, covariance, shares = problem
    features, labels = virtual_features(means, covariance, 5000, 2)
    best = discriminant_head(means, covariance, shares).logits(features).softmax(1)
    found = trained_head(features, labels, shares).logits(features).softmax(1)
    assert float((found - best).abs().mean()) < 0.02


def test_a_trained_head_does_not_mind_where_features_are_nor_how_often_a_class_is_drawn(problem):
    means, covariance, shares = problem
    features, labels = virtual_features(means, covariance, 200, 2)
    plain = trained_head(features, labels, shares).logits(features)
    moved = trained_head(100 * features + 7, labels, shares).logits(100 * features + 7)
    torch.testing.assert_close(moved, plain, atol=1e-3, rtol=1e-3)
    first = labels == 0
    more, more_labels = torch.cat([features, features[first]]), torch.cat([labels, labels[first]])
    repeated = trained_head(more, more_labels, shares).logits(features)
    torch.testing.assert_close(repeated, plain, atol=1e-3, rtol=1e-3)


def test_the_spread_of_logits_is_that_of_drawn_features(problem):
    means, covariance, shares = problem
    features, labels = virtual_features(means, covariance, 50_000, 4)
    head = LinearHead(torch.randn(3, 4).double(), torch.randn(3).double())
    logits = head.logits(features)
    squares = (logits - logits.mean(1, keepdim=True)).square().mean(1)
    drawn = sum(share * squares[labels == c].mean() for c, share in enumerate(shares)) ** 0.5
    found = logit_spread(head, means, covariance, shares)
    assert found == pytest.approx(float(drawn), rel=0.01)
    # A factor on the logits is a factor on the spread; what all logits share is none.
    assert logit_spread(head.scaled(3.0), means, covariance, shares) == pytest.approx(3 * found)
    moved = LinearHead(head.weight + torch.randn(4).double(), head.bias + 5)
    assert logit_spread(moved, means, covariance, shares) == pytest.approx(found)


def test_classes_of_which_nothing_is_known_stay_where_they_were(problem):
    means, covariance, shares = problem
    old = LinearHead(torch.randn(5, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64))
    known = torch.tensor([True, False, True, True, False])
    new = discriminant_head(means, covariance, shares)
    head = new.within(old, known)
    features = torch.randn(30, 4, dtype=torch.float64)
    before, after = old.logits(features), head.logits(features)

    def beside_known(logits):
        return logits[:, ~known] - logits[:, known].mean(1, keepdim=True)

    torch.testing.assert_close(beside_known(after), beside_known(before))
    # Among the known ones it is the new head.
    torch.testing.assert_close(after[:, known].softmax(1), new.logits(features).softmax(1))


def test_clients_together_get_the_head_of_all_images_in_one_place(problem):
    """The exact discriminant of means and one second moment, to 1e-6, whoever holds the images."""
    means, covariance, _ = problem
    features, labels = virtual_features(means, covariance, 60, 5)
    member = F.one_hot(labels, 3).double()

    def head(sums, counts, moment):
        found, _ = pooled_covariance(moment, sums, counts)
        return discriminant_head(class_means(sums, counts), found, counts / counts.sum())

    whole = head(member.T @ features, member.sum(0), features.T @ features)
    parts = torch.randperm(180).split([100, 50, 30])
    shared = head(
        sum(member[p].T @ features[p] for p in parts),
        sum(member[p].sum(0) for p in parts),
        sum(features[p].T @ features[p] for p in parts),
    )
    torch.testing.assert_close(shared.weight, whole.weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(shared.bias, whole.bias, atol=1e-6, rtol=0)
    # Against a solution of its own: regression on the classes spans the same directions (Fisher).
    centred = features - features.mean(0)
    slopes = torch.linalg.lstsq(centred, member - member.mean(0)).solution
    directions = (whole.weight - (member.mean(0) @ whole.weight)).T
    fitted = slopes @ torch.linalg.lstsq(slopes, directions).solution
    torch.testing.assert_close(fitted, directions, atol=1e-8, rtol=1e-8)
