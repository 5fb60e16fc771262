"""The bias of the head: fixed points, optimality, invariance."""

import pytest
import torch
from torch.nn import functional as F

from post_training.calibration.bias import bias_from_images, bias_from_predictions

CLASSES = [2, 10, 200]


def draw(classes, images=600, seed=0):
    """Return logits of images that a model knows something of, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    labels[:classes] = torch.arange(classes)
    skew = 2 * torch.randn(classes, generator=generator)
    logits = torch.randn(images, classes, generator=generator) + 3 * F.one_hot(labels, classes)
    return logits + skew, labels


@pytest.mark.parametrize("classes", CLASSES)
def test_repeated_the_mean_prediction_becomes_the_share_of_the_labels(classes):
    logits, labels = draw(classes)
    counts = labels.bincount(minlength=classes)
    bias = torch.zeros(classes, dtype=torch.float64)
    distances = []
    for _ in range(1000):
        sums = (logits + bias).double().softmax(1).sum(0)
        distances.append(float((sums - counts).abs().sum()) / len(labels))
        bias += bias_from_predictions(counts, sums)
    assert distances[1] < distances[0]
    assert distances[-1] < 1e-6
    assert float(bias_from_predictions(counts, counts.double()).abs().max()) < 1e-12


def test_predictions_that_are_right_ask_for_nothing_of_one_client_or_several():
    """Sums over clients are all that counts: shared out over clients they give the same bias."""
    logits, labels = draw(10)
    sums = logits.softmax(1)
    whole = bias_from_predictions(labels.bincount(minlength=10), sums.sum(0))
    parts = [slice(0, 100), slice(100, 350), slice(350, None)]
    counts = sum(labels[part].bincount(minlength=10) for part in parts)
    torch.testing.assert_close(
        bias_from_predictions(counts, sum(sums[part].double().sum(0) for part in parts)),
        whole,
        atol=1e-6,
        rtol=0,
    )


def test_a_class_that_nobody_holds_keeps_its_bias_and_one_never_predicted_gets_a_finite_one():
    bias = bias_from_predictions(torch.tensor([5, 0, 15]), torch.tensor([12.0, 5.0, 3.0]))
    assert bias[1] == 0
    # Of the two others the shares are 1/4 and 3/4, the mean predictions 4/5 and 1/5.
    torch.testing.assert_close(bias[[0, 2]].exp(), torch.tensor([5 / 16, 15 / 4]).double())
    assert bias_from_predictions(torch.tensor([5, 5]), torch.tensor([10.0, 0.0])).isfinite().all()
    assert not bias_from_predictions(torch.tensor([0, 5]), torch.tensor([4.0, 1.0])).any()


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("penalty", [0.01, 0.3, 10.0])
def test_the_gradient_is_zero_at_the_optimum(classes, penalty):
    logits, labels = draw(classes)
    bias = bias_from_images(logits, labels, penalty).requires_grad_()
    counts = labels.bincount(minlength=classes)
    loss = F.cross_entropy(logits.double() + bias, labels, weight=1 / counts.double())
    (loss + penalty / classes * bias.square().sum()).backward()
    assert float(bias.grad.abs().max()) < 1e-9
    assert abs(float(bias.detach().sum())) < 1e-9


@pytest.mark.parametrize("classes", CLASSES)
def test_the_bias_makes_up_for_what_was_added_to_the_logits(classes):
    """Unpenalised: adding v to all logits changes b by −v, apart from the constant."""
    logits, labels = draw(classes)
    added = torch.linspace(-1, 2, classes).double()
    with_it = bias_from_images(logits.double() + added, labels, 0.0)
    without = bias_from_images(logits.double(), labels, 0.0)
    torch.testing.assert_close(with_it, without - added + added.mean(), atol=1e-6, rtol=0)
    with_constant = bias_from_images(logits.double() + 7.0, labels, 0.3)
    torch.testing.assert_close(with_constant, bias_from_images(logits, labels, 0.3))


def test_more_penalty_is_a_smaller_bias_down_to_none():
    logits, labels = draw(10)
    norms = [float(bias_from_images(logits, labels, p).norm()) for p in (0.0, 0.1, 1.0, 10.0, 1e9)]
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 1 and norms[-1] < 1e-6


def test_every_class_weighs_the_same_however_many_images_there_are_of_it():
    logits, labels = draw(5)
    more = labels == 2
    repeated = bias_from_images(
        torch.cat([logits, logits[more], logits[more]]),
        torch.cat([labels, labels[more], labels[more]]),
        0.1,
    )
    torch.testing.assert_close(repeated, bias_from_images(logits, labels, 0.1))


def test_a_class_without_images_keeps_its_bias_and_does_not_disturb_the_others():
    logits, labels = draw(5)
    some = labels != 3
    bias = bias_from_images(logits[some], labels[some], 0.1)
    assert bias[3] == 0
    kept = [0, 1, 2, 4]
    position = torch.tensor([0, 1, 2, -1, 3])
    torch.testing.assert_close(
        bias[kept], bias_from_images(logits[some][:, kept], position[labels[some]], 0.1)
    )
    assert not bias_from_images(logits[labels == 3], labels[labels == 3], 0.1).any()
    assert not bias_from_images(logits[:0], labels[:0], 0.1).any()


def test_separated_images_without_penalty_do_not_run_away():
    labels = torch.arange(3).repeat(4)
    bias = bias_from_images(
        50.0 * F.one_hot(labels, 3).double() + torch.tensor([9.0, 0, 0]), labels, 0.0
    )
    assert bias.isfinite().all()
