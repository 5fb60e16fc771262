"""Figures against scikit-learn's on the single predictions, and what their intervals cover."""

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from foundation import scores
from foundation.scores import (
    BINS,
    SCORE_BINS,
    Figure,
    Outcomes,
    Z,
    difference_interval,
    share_interval,
)


def drawn(
    seed: int, images: int, classes: int, skill: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels of a model that knows something."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, images, p=rng.dirichlet(np.full(classes, 2.0)))
    logits = rng.normal(0, 1.5, (images, classes))
    logits[np.arange(images), labels] += skill
    return logits, labels


def probabilities(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


CASES = st.tuples(st.integers(0, 10**6), st.integers(2, 120), st.integers(2, 6))


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_every_figure_is_scikit_learns(case: tuple[int, int, int]) -> None:
    logits, labels = drawn(*case)
    classes = range(logits.shape[1])
    predicted, shares = logits.argmax(axis=1), probabilities(logits)
    found = Outcomes.counted(logits, labels)
    exactly = {"rel": 1e-9, "abs": 1e-9}
    np.testing.assert_array_equal(
        found.confusion, metrics.confusion_matrix(labels, predicted, labels=classes)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are never named
        expected = metrics.precision_recall_fscore_support(
            labels, predicted, labels=classes, zero_division=np.nan
        )
        balanced = metrics.balanced_accuracy_score(labels, predicted)
    precision, recall, f1, _ = expected
    for mine, theirs in (
        (scores.precisions(found), precision),
        (scores.recalls(found), recall),
        (scores.f1_scores(found), f1),
    ):
        assert [figure.value for figure in mine] == pytest.approx(theirs, nan_ok=True, **exactly)
    for label, figure in enumerate(scores.specificities(found)):
        rest = labels != label
        if rest.any():
            kept_out = metrics.recall_score(rest, predicted != label)
            assert figure.value == pytest.approx(kept_out, **exactly)
    assert scores.accuracy(found).value == pytest.approx(
        metrics.accuracy_score(labels, predicted), **exactly
    )
    assert scores.balanced_accuracy(found).value == pytest.approx(balanced, **exactly)
    assert scores.log_loss(found).value == pytest.approx(
        metrics.log_loss(labels, shares, labels=classes), rel=1e-9, abs=1e-9
    )


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_areas_are_scikit_learns_within_their_bins(case: tuple[int, int, int]) -> None:
    logits, labels = drawn(*case)
    shares = probabilities(logits)
    found = Outcomes.counted(logits, labels)
    binned = np.floor((np.clip(np.log(shares / (1 - shares)), -16, 16) + 16) * 2)
    for label, figure in enumerate(scores.areas(found)):
        own = labels == label
        if not own.any() or own.all():
            assert not figure.known
            continue
        single = metrics.roc_auc_score(own, shares[:, label])
        of_bins = metrics.roc_auc_score(own, binned[:, label])
        assert figure.value == pytest.approx(of_bins, abs=1e-9)
        same = binned[own, label][:, None] == binned[~own, label][None]
        assert abs(figure.value - single) <= same.mean() / 2 + 1e-12


def test_the_calibration_error_by_hand() -> None:
    # Four images of confidence 0.9, three right; two of confidence 0.6, none right.
    logits = np.log([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 2)
    found = scores.calibration_error(Outcomes.counted(logits, np.array([0, 0, 0, 1, 1, 1])))
    assert found.value == pytest.approx((4 * 0.15 + 2 * 0.6) / 6)
    assert found.low <= found.value <= found.high


def test_guessing_costs_the_entropy_of_the_classes_and_nothing_of_one_class() -> None:
    logits = np.zeros((4, 3))
    found = scores.entropy(Outcomes.counted(logits, np.array([0, 0, 1, 1])))
    assert found == pytest.approx(math.log(2))
    alone = scores.entropy(Outcomes.counted(logits, np.array([2, 2, 2, 2])))
    assert f"{alone:.3f}" == "0.000"  # and no negative zero


@given(CASES, st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_outcomes_of_sites_add_up_to_those_of_all_images(
    case: tuple[int, int, int], sites: int
) -> None:
    logits, labels = drawn(*case)
    rows = np.array_split(np.arange(len(labels)), sites)
    whole = Outcomes.counted(logits, labels)
    added = Outcomes.sum([Outcomes.counted(logits[r], labels[r]) for r in rows])
    assert added is not None
    assert (added.images, added.right) == (whole.images, whole.right)
    assert (added.loss, added.loss_squares) == pytest.approx((whole.loss, whole.loss_squares))
    np.testing.assert_array_equal(added.confusion, whole.confusion)
    np.testing.assert_array_equal(added.histograms, whole.histograms)
    np.testing.assert_allclose(added.bins, whole.bins)


def test_a_site_that_tells_totals_alone_keeps_the_sum_without_classes() -> None:
    logits, labels = drawn(0, 50, 3)
    told = Outcomes.counted(logits[:20], labels[:20])
    kept = Outcomes.counted(logits[20:], labels[20:], by_class=False)
    assert kept.confusion is None and kept.histograms is None
    both = Outcomes.sum([told, kept])
    assert both is not None and both.confusion is None
    assert scores.accuracy(both) == scores.accuracy(Outcomes.counted(logits, labels))
    assert scores.recalls(both) == [] and scores.guessing(both) is None
    assert not scores.balanced_accuracy(both).known


def test_what_a_file_holds_is_read_back() -> None:
    for by_class in (True, False):
        sent = Outcomes.counted(*drawn(1, 30, 4), by_class=by_class)
        found = Outcomes.read(json.loads(json.dumps(sent.as_json())))
        assert found is not None and found.as_json() == sent.as_json()
    for nothing in (None, {}, {"images": 3}, {**sent.as_json(), "bins": [[1]]}):
        assert Outcomes.read(nothing) is None


def test_an_image_without_finite_outputs_is_never_right() -> None:
    logits = np.array([[np.nan, 0.0, 0.0], [0.0, np.inf, 0.0], [3.0, 0.0, 0.0]])
    found = Outcomes.counted(logits, np.array([0, 1, 0]))
    assert found.right == 1 and found.confusion is not None
    assert np.trace(found.confusion) == 1 and found.confusion.sum() == 3
    assert math.isinf(found.loss) and math.isinf(scores.log_loss(found).value)
    back = Outcomes.read(found.as_json())
    assert back is not None and math.isinf(back.loss)


def test_nothing_is_known_of_no_image() -> None:
    found = Outcomes.counted(np.zeros((0, 3)), np.zeros(0, np.int64))
    for figure in (scores.accuracy, scores.log_loss, scores.calibration_error):
        assert not figure(found).known
    assert not scores.balanced_accuracy(found).known and scores.guessing(found) is None


def test_guessing_is_the_most_frequent_class_and_unnamed_classes_are_told() -> None:
    labels = np.repeat([0, 1, 2], [58, 21, 21])
    always = np.tile([5.0, 0.0, 0.0], (100, 1))
    found = Outcomes.counted(always, labels)
    assert scores.guessing(found) == scores.accuracy(found).value == 0.58
    assert scores.never_named(found) == [1, 2]
    assert scores.balanced_accuracy(found).value == pytest.approx(1 / 3)


def test_few_images_are_marked() -> None:
    found = Outcomes.counted(*drawn(3, scores.FEW - 1, 2))
    assert scores.accuracy(found).few
    assert not scores.accuracy(Outcomes.counted(*drawn(3, scores.FEW, 2))).few


@pytest.mark.parametrize("area", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_the_interval_of_an_area_holds_it_and_shrinks(area: float) -> None:
    low, high = scores._area_interval(area, 10, 20)
    nearer = scores._area_interval(area, 1000, 2000)
    assert 0 <= low <= area <= high <= 1 and low < high
    assert low <= nearer[0] <= area <= nearer[1] <= high
    mirrored = scores._area_interval(1 - area, 10, 20)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-6)


def test_the_limits_of_an_area_are_z_standard_errors_away() -> None:
    # Hanley and McNeil's variance with both numbers replaced by their mean, at the limit itself.
    for limit in scores._area_interval(0.8, 15, 25):
        ratio = (1 - limit) / (2 - limit) + limit / (1 + limit)
        variance = limit * (1 - limit) * (1 + 19 * ratio) / (15 * 25)
        assert abs(limit - 0.8) == pytest.approx(1.959964 * variance**0.5, rel=1e-6)


@given(st.integers(1, 200), st.floats(0, 1))
def test_the_interval_of_f1_is_that_of_its_share(images: int, skill: float) -> None:
    right = round(skill * images)
    labels = np.zeros(images, np.int64)
    logits = np.tile([0.0, 1.0], (images, 1))
    logits[:right] = [1.0, 0.0]
    f1 = scores.f1_scores(Outcomes.counted(logits, labels))[0]
    low, high = share_interval(right / images, images)
    assert (f1.low, f1.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))


def test_intervals_cover_what_they_are_for() -> None:
    """Of 400 samples about 95 % cover the figure of a very large one."""
    logits, labels = drawn(7, 40_000, 3)
    truth = {
        name: getattr(scores, name)(Outcomes.counted(logits, labels)).value
        for name in ("accuracy", "balanced_accuracy", "log_loss", "mean_area")
    }
    covered = dict.fromkeys(truth, 0)
    rng = np.random.default_rng(0)
    for _ in range(400):
        rows = rng.integers(0, len(labels), 80)
        sample = Outcomes.counted(logits[rows], labels[rows])
        for name, value in truth.items():
            figure: Figure = getattr(scores, name)(sample)
            covered[name] += figure.low <= value <= figure.high
    assert all(count >= 0.92 * 400 for count in covered.values()), covered


def test_sizes() -> None:
    found = Outcomes.counted(*drawn(0, 5, 7))
    assert found.bins.shape == (3, BINS)
    assert found.histograms is not None and found.histograms.shape == (2, 7, SCORE_BINS)


def test_a_share_interval_solves_its_equation() -> None:
    """Wilson's ends are the true shares from which the one found lies Z standard errors away."""
    for share, images in ((0.5, 10), (0.9, 40), (0.01, 1000)):
        for end in share_interval(share, images):
            assert abs(share - end) == pytest.approx(Z * (end * (1 - end) / images) ** 0.5)


@pytest.mark.parametrize("images", [1, 5, 1000])
def test_the_ends_stay_shares(images: int) -> None:
    assert share_interval(0.0, images)[0] == pytest.approx(0.0, abs=1e-12)
    assert share_interval(1.0, images)[1] == pytest.approx(1.0)
    assert share_interval(0.0, images)[1] > 0 and share_interval(1.0, images)[0] < 1


def test_95_of_100_intervals_hold_the_truth() -> None:
    draws = np.random.default_rng(0).binomial(200, 0.8, 4000) / 200
    ends = [share_interval(share, 200) for share in draws]
    assert np.mean([low <= 0.8 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.015)


def test_a_difference_turned_round_has_the_ends_turned_round() -> None:
    low, high = difference_interval(0.8, 0.6, 50)
    assert difference_interval(0.6, 0.8, 50) == pytest.approx((-high, -low))
    assert low < 0.8 - 0.6 < high


def test_many_images_leave_the_normal_interval() -> None:
    images, after, before = 10**6, 0.7, 0.6
    error = ((after * (1 - after) + before * (1 - before)) / images) ** 0.5
    ends = difference_interval(after, before, images)
    assert ends == pytest.approx((0.1 - Z * error, 0.1 + Z * error), abs=1e-6)
