"""Sums by class: what summing image by image gives, and what noise does to them."""

import pytest
import torch

from foundation.models import build
from foundation.models.class_statistics import ClassSums, class_sums, noised

COUNTS = torch.tensor([6, 2, 0, 8])


@pytest.fixture
def model():
    return build("resnet8", classes=4, channels=1, image_size=8, seed=0)


@pytest.fixture
def data():
    torch.manual_seed(0)
    labels = torch.arange(4).repeat_interleave(COUNTS)[torch.randperm(16)]
    return torch.randn(16, 1, 8, 8), labels


def sums(model, data, size=5, **asked) -> ClassSums:
    images, labels = data
    batches = zip(images.split(size), labels.split(size), strict=True)
    return class_sums(model, batches, COUNTS, **asked)


def test_sums_are_those_of_summing_image_by_image(model, data):
    found = sums(
        model, data, predictions=True, means=True, moment=True, class_moments=True, minimum=3
    )
    model.eval()
    predictions, features, moment = torch.zeros(4), torch.zeros(4, 64), torch.zeros(64, 64)
    with torch.no_grad():
        for image, label in zip(*data, strict=True):
            (feature,) = model.embed(image[None])
            predictions += model.classify(feature[None])[0].softmax(dim=0)
            if label != 1:  # of which there are two
                features[label] += feature
                moment += feature.outer(feature)
    torch.testing.assert_close(found.predictions, predictions.double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.feature_sums, features.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.moment, moment.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.class_moments.sum(0), found.moment)
    assert found.class_moments[[0, 3]].any() and not found.class_moments[[1, 2]].any()
    assert found.feature_counts.tolist() == [6, 0, 0, 8]
    assert float(found.predictions.sum()) == pytest.approx(16, rel=1e-6)


def test_what_was_not_asked_for_is_not_there(model, data):
    alone = sums(model, data, predictions=True)
    assert alone.feature_sums is alone.feature_counts is alone.moment is None
    # Without class means no class is left out of the second moment.
    whole = sums(model, data, moment=True, minimum=100)
    assert float(whole.moment.trace()) == pytest.approx(16 * 64 * whole.feature_size**2, rel=1e-6)
    assert whole.feature_counts is None


def test_two_places_add_up_to_one(model, data):
    images, labels = data
    halves = []
    for rows in (slice(0, 7), slice(7, 16)):
        counts = labels[rows].bincount(minlength=4)
        halves.append(
            class_sums(model, [(images[rows], labels[rows])], counts, means=True, moment=True)
        )
    whole = sums(model, data, means=True, moment=True)
    for name in ("feature_sums", "feature_counts", "moment"):
        added = getattr(halves[0], name) + getattr(halves[1], name)
        torch.testing.assert_close(added, getattr(whole, name), rtol=1e-5, atol=1e-5)


def test_noise_has_the_size_it_says_and_spares_what_is_left_out(model, data):
    exact = sums(
        model, data, predictions=True, means=True, moment=True, class_moments=True, minimum=3
    )
    generator = torch.Generator().manual_seed(0)
    blurred = noised(exact, 0.5, generator)
    difference = blurred.feature_sums - exact.feature_sums
    assert not difference[1:3].any()
    expected = 0.5 * exact.feature_size
    assert float(difference[[0, 3]].std()) == pytest.approx(expected, rel=0.2)
    second = blurred.moment - exact.moment
    assert torch.equal(second, second.T)
    assert float(second.std()) == pytest.approx(0.5 * exact.feature_size**2, rel=0.1)
    by_class = blurred.class_moments - exact.class_moments
    torch.testing.assert_close(by_class, by_class.mT)
    assert not by_class[1:3].any()
    assert float(by_class[[0, 3]].std()) == pytest.approx(0.5 * exact.feature_size**2, rel=0.1)
    assert torch.equal(blurred.predictions, exact.predictions)
    assert noised(exact, 0.0, generator) is exact
