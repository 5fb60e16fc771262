"""Intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from foundation.intervals import Z, difference_interval, share_interval


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
