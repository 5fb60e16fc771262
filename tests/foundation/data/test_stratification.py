import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foundation.data import stratified_split, stratified_subset

some_labels = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(
    lambda values: np.array(values, dtype=np.int64)
)


@given(labels=some_labels, fraction=st.floats(0, 0.99), seed=st.integers(0, 5))
def test_a_split_is_a_split_with_the_shares_of_the_whole(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    large, small = stratified_split(labels, fraction, seed)
    assert sorted([*large, *small]) == list(range(len(labels)))
    for label in np.unique(labels):
        total = np.sum(labels == label)
        held = np.sum(labels[small] == label)
        assert held < total
        assert abs(held - fraction * total) <= 1
    again = stratified_split(labels, fraction, seed)
    np.testing.assert_array_equal(again[1], small)


@given(labels=some_labels, fraction=st.floats(0.001, 0.5), least=st.integers(1, 12))
def test_a_class_of_enough_images_gives_at_least_one_and_never_all(
    labels: np.ndarray, fraction: float, least: int
) -> None:
    _, small = stratified_split(labels, fraction, 0, at_least_one_of=least)
    for label in np.unique(labels):
        total = np.sum(labels == label)
        held = np.sum(labels[small] == label)
        assert held < total
        assert held >= 1 or total < max(least, 2)


def test_nothing_is_held_out_of_a_share_of_zero() -> None:
    labels = np.repeat(np.arange(3), 50)
    _, small = stratified_split(labels, 0.0, 0, at_least_one_of=10)
    assert len(small) == 0


@given(labels=some_labels, size=st.integers(1, 250), seed=st.integers(0, 5))
def test_a_subset_has_its_size_and_the_shares_of_the_whole(
    labels: np.ndarray, size: int, seed: int
) -> None:
    rows = stratified_subset(labels, size, seed)
    assert len(rows) == len(set(rows.tolist())) == min(size, len(labels))
    share = len(rows) / len(labels)
    for label in np.unique(labels):
        total = np.sum(labels == label)
        assert abs(np.sum(labels[rows] == label) - share * total) < 1


def test_another_seed_is_another_subset() -> None:
    labels = np.repeat(np.arange(3), 50)
    assert not np.array_equal(stratified_subset(labels, 30, 0), stratified_subset(labels, 30, 1))
