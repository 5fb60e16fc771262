"""Statistics against numbers worked out by hand or published."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedf2dg.compare.results import Mean, t_factor

NUMBERS = st.lists(st.floats(-1, 1), min_size=2, max_size=8)


def test_three_differences_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, s = 1, and t(0.975, 2) = 4.302653 (any table of Student's t).
    found = Mean.of([1.0, 2.0, 3.0])
    assert found is not None and found.reach is not None
    assert (found.count, found.mean, found.deviation) == (3, 2.0, 1.0)
    assert found.reach == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert not found.clear


def test_students_own_data() -> None:
    # Student (1908), Biometrika 6: hours of sleep gained under two drugs, ten patients. The
    # interval is the one in the documentation of R's t.test for data(sleep).
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = Mean.of([b - a for a, b in zip(first, second, strict=True)])
    assert found is not None and found.reach is not None
    assert found.mean == pytest.approx(1.58)
    ends = found.mean - found.reach, found.mean + found.reach
    assert ends == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
    assert found.clear


def test_the_spread_is_that_of_a_sample() -> None:
    found = Mean.of([0.2, 0.4, 0.6])
    assert found is not None and found.deviation is not None
    assert found.mean == pytest.approx(0.4)
    assert found.deviation == pytest.approx(0.2)  # √((0.04 + 0 + 0.04) / 2)


def test_one_seed_has_neither_spread_nor_interval() -> None:
    one = Mean.of([0.9 - 0.8])
    assert one is not None and one.mean == pytest.approx(0.1)
    assert (one.deviation, one.reach, one.clear) == (None, None, False)
    assert Mean.of([]) is None


def test_two_equal_differences_are_no_proof() -> None:
    found = Mean.of([0.9 - 0.8, 0.8 - 0.7000000000000001])
    assert found is not None and not found.clear


def test_t_tends_to_the_normal_quantile() -> None:
    assert t_factor(2) == pytest.approx(12.7062, abs=1e-4)
    assert t_factor(100_000) == pytest.approx(1.95996, abs=1e-3)


@given(NUMBERS)
def test_swapping_the_methods_mirrors_the_interval(differences: list[float]) -> None:
    one, other = Mean.of(differences), Mean.of([-d for d in differences])
    assert one is not None and other is not None
    assert one.reach is not None and one.mean == pytest.approx(-other.mean)
    assert one.reach == pytest.approx(other.reach)
