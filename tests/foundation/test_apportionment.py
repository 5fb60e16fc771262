from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.apportionment import largest_remainder


@given(st.integers(0, 1000), st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_largest_remainder_keeps_every_quota(total: int, weights: list[float]) -> None:
    array = np.array(weights) + 1e-9
    parts = largest_remainder(total, array)
    assert sum(parts) == total
    assert np.all(np.abs(np.array(parts) - total * array / array.sum()) < 1 + 1e-6)


@pytest.mark.parametrize(
    ("total", "weights"), [(-1, [1.0]), (3, [0.0, 0.0]), (3, [1.0, -1.0]), (3, [float("nan")])]
)
def test_impossible_shares_are_refused(total: int, weights: list[float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        largest_remainder(total, weights)
