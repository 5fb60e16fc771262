from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.data import PARTITIONS, PartitionError, partition, to_assignment
from foundation.data.partitions import _draw_counts, largest_remainder

# As many labels as CIFAR-10 has, and fewer.
CIFAR = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
FEW = CIFAR[:4000]


def partition_counts(parts: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Rows of each of ten classes that each client holds, shape (clients, 10)."""
    return np.stack([np.bincount(labels[part], minlength=10) for part in parts])


def assert_partition(parts: list[np.ndarray], samples: int, clients: int) -> None:
    assert len(parts) == clients
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(samples))
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(PARTITIONS),
    clients=st.integers(1, 12),
    classes=st.integers(2, 8),
    per_client=st.integers(1, 8),
    alpha=st.sampled_from([0.05, 0.5, 5.0]),
    seed=st.integers(0, 3),
)
def test_parts_are_disjoint_cover_everything_and_repeat(
    kind: str, clients: int, classes: int, per_client: int, alpha: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, 400)
    arguments: dict[str, Any] = {
        "kind": kind,
        "clients": clients,
        "seed": seed,
        "dirichlet_alpha": alpha,
        "quantity_alpha": alpha,
        "classes_per_client": per_client,
        "min_samples": 2,
    }
    try:
        parts = partition(labels, **arguments)
    except PartitionError:
        # Only where the arguments are to blame.
        assert per_client > classes or clients * per_client < classes or alpha < 5
        return
    assert_partition(parts, 400, clients)
    assert min(len(part) for part in parts) >= 2
    for part, again in zip(parts, partition(labels, **arguments), strict=True):
        np.testing.assert_array_equal(part, again)


# Recorded with flwr-datasets 0.6.1, whose partitioners cut all kinds but Dirichlet until they were
# written here (and with numpy 2.4, whose random streams they are).
@pytest.mark.parametrize(
    ("kind", "clients", "per_client", "digest"),
    [
        ("iid", 7, 2, "5c6510a7b6992550"),
        ("classes", 13, 3, "684de67b7e81808a"),
        ("classes", 10, 2, "a7a2acb0461bf81b"),
        ("classes", 4, 3, "38ff7dce356f68f2"),
        ("quantity", 6, 2, "b6d402c15351c6c2"),
        ("dirichlet", 8, 2, "53f8122dd2fdc5ca"),
    ],
)
def test_a_seed_gives_the_partition_that_published_figures_were_made_with(
    kind: str, clients: int, per_client: int, digest: str
) -> None:
    parts = partition(FEW, kind=kind, clients=clients, classes_per_client=per_client, seed=3)
    assignment = to_assignment(parts, len(FEW)).astype("<i4")
    assert sha256(assignment.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("kind", PARTITIONS)
def test_another_seed_is_another_partition(kind: str) -> None:
    first, second = (partition(FEW, kind=kind, clients=10, seed=seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_iid_parts_are_equal_and_look_like_the_whole() -> None:
    parts = partition(CIFAR, kind="iid", clients=8, seed=0)
    assert {len(part) for part in parts} == {6250}
    counts = partition_counts(parts, CIFAR)
    # Hypergeometric: mean 625, standard deviation about 22.
    assert (abs(counts - 625) < 5 * 22).all()


@pytest.mark.parametrize(("clients", "per_client"), [(10, 2), (20, 3), (4, 3), (5, 2), (2, 10)])
def test_every_client_holds_its_number_of_classes(clients: int, per_client: int) -> None:
    parts = partition(FEW, kind="classes", clients=clients, classes_per_client=per_client, seed=3)
    assert_partition(parts, len(FEW), clients)
    counts = partition_counts(parts, FEW)
    assert ((counts > 0).sum(axis=1) == per_client).all()
    # A class's holders share it equally.
    for column in counts.T:
        held = column[column > 0]
        assert held.max() - held.min() <= 1


def test_with_enough_clients_client_i_holds_class_i() -> None:
    parts = partition(FEW, kind="classes", clients=15, classes_per_client=2, seed=0)
    counts = partition_counts(parts, FEW)
    assert all(counts[client, client % 10] > 0 for client in range(15))


def test_quantity_parts_differ_in_size_and_not_in_classes() -> None:
    parts = partition(CIFAR, kind="quantity", clients=5, quantity_alpha=0.5, seed=0)
    sizes = np.array([len(part) for part in parts])
    assert sizes.max() > 2 * sizes.min()
    shares = partition_counts(parts, CIFAR)[sizes > 2000] / sizes[sizes > 2000, None]
    np.testing.assert_allclose(shares, 0.1, atol=0.04)


def test_a_large_quantity_alpha_gives_equal_sizes() -> None:
    parts = partition(CIFAR, kind="quantity", clients=5, quantity_alpha=1e7, seed=0)
    np.testing.assert_allclose([len(part) for part in parts], 10_000, rtol=0.01)


def test_a_large_dirichlet_alpha_divides_every_class_equally() -> None:
    parts = partition(CIFAR, kind="dirichlet", clients=5, dirichlet_alpha=1e7, seed=0)
    np.testing.assert_allclose(partition_counts(parts, CIFAR), 1000, rtol=0.01)


def test_a_small_dirichlet_alpha_skews_the_labels() -> None:
    parts = partition(CIFAR, kind="dirichlet", clients=10, dirichlet_alpha=0.05, seed=0)
    counts = partition_counts(parts, CIFAR)
    largest_two = np.sort(counts, axis=1)[:, -2:].sum(axis=1)
    assert np.median(largest_two / counts.sum(axis=1)) > 0.8
    assert counts.sum(axis=1).min() >= 10


def test_balanced_parts_are_of_one_size_and_each_has_shares_of_its_own() -> None:
    parts = partition(CIFAR, kind="dirichlet-balanced", clients=7, dirichlet_alpha=0.05, seed=0)
    counts = partition_counts(parts, CIFAR)
    assert np.ptp(counts.sum(axis=1)) <= 1
    largest_two = np.sort(counts, axis=1)[:, -2:].sum(axis=1)
    assert np.median(largest_two / counts.sum(axis=1)) > 0.6


def test_balanced_shares_follow_their_dirichlet_distribution() -> None:
    """Compare the mean square of the shares with its expectation, p² + p(1 - p) / (Cα + 1)."""
    labels, clients, squares = np.repeat(np.arange(4), 5000), 50, []
    for seed in range(4):
        parts = partition(
            labels, kind="dirichlet-balanced", clients=clients, dirichlet_alpha=2.0, seed=seed
        )
        counts = partition_counts(parts, labels)
        squares.append(((counts / 400) ** 2).sum() / (4 * clients))
    of_shares = 1 / 16 + (1 / 4) * (3 / 4) / (4 * 2.0 + 1)
    # Images are drawn by the shares, and the last turns take what is left.
    of_counts = of_shares + (1 / 4 - of_shares) / 400
    assert np.mean(squares) == pytest.approx(of_counts, rel=0.05)


@settings(deadline=None)
@given(
    totals=st.lists(st.integers(1, 300), min_size=2, max_size=8),
    clients=st.integers(2, 6),
    alpha=st.sampled_from([0.05, 0.3, 2.0]),
    seed=st.integers(0, 100),
)
def test_a_client_that_holds_its_share_gets_no_more_of_the_next_class(
    totals: list[int], clients: int, alpha: float, seed: int
) -> None:
    counts, _ = _draw_counts(np.array(totals), clients, alpha, 0, np.random.default_rng(seed))
    assert counts is not None
    np.testing.assert_array_equal(counts.sum(axis=1), totals)
    assert (counts >= 0).all()
    held = np.zeros(clients)
    for given_out in counts:
        full = held >= sum(totals) / clients
        # Rounding down leaves the last client up to one sample per class.
        assert (given_out[full] <= (np.arange(clients) == clients - 1)[full]).all()
        held += given_out


def test_the_fast_draw_has_the_law_of_the_plain_one() -> None:
    """Mean and spread of client sizes agree with NIID-Bench's procedure, written plainly."""
    rng = np.random.default_rng(1)
    classes, per_class, clients, alpha = 6, 100, 4, 0.3

    def plain() -> list[int]:
        held = [0] * clients
        for _ in range(classes):
            shares = rng.dirichlet([alpha] * clients)
            shares = shares * (np.array(held) < classes * per_class / clients)
            ends = (np.cumsum(shares / shares.sum()) * per_class).astype(int)[:-1]
            for client, chunk in enumerate(np.split(np.arange(per_class), ends)):
                held[client] += len(chunk)
        return sorted(held)

    slow = np.array([plain() for _ in range(1500)])

    def fast_one() -> list[int]:
        counts, _ = _draw_counts(np.full(classes, per_class), clients, alpha, 0, rng)
        return sorted(counts.sum(axis=0))

    fast = np.array([fast_one() for _ in range(1500)])
    error = 4 * slow.std(axis=0) * np.sqrt(2 / 1500)
    assert (abs(slow.mean(axis=0) - fast.mean(axis=0)) < error + 0.5).all()
    np.testing.assert_allclose(slow.std(axis=0), fast.std(axis=0), rtol=0.15)


def test_many_clients_at_small_alpha_are_found_or_refused_with_the_reason() -> None:
    parts = partition(CIFAR, kind="dirichlet", clients=50, dirichlet_alpha=0.05, seed=0)
    assert min(len(part) for part in parts) >= 10
    with pytest.raises(PartitionError) as refusal:
        partition(CIFAR, kind="dirichlet", clients=100, dirichlet_alpha=0.05, seed=0)
    message = str(refusal.value)
    assert "1000 draws" in message and "smallest client had" in message
    assert "raise dirichlet-alpha" in message and "fewer clients" in message


def test_tiny_alpha_ends() -> None:
    """Weights underflow to zero; the draw is refused, not divided by zero."""
    with np.errstate(all="raise", under="ignore"):
        try:
            parts = partition(CIFAR, kind="dirichlet", clients=20, dirichlet_alpha=1e-4, seed=0)
            assert_partition(parts, len(CIFAR), 20)
        except PartitionError as error:
            assert "raise dirichlet-alpha" in str(error)


def test_labels_need_not_be_contiguous() -> None:
    labels = np.repeat([3, 8], 50)
    parts = partition(labels, kind="dirichlet", clients=3, dirichlet_alpha=1.0, seed=0)
    assert_partition(parts, 100, 3)
    assert partition_counts(parts, labels).sum() == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "shards"}, "choose one of iid, dirichlet, dirichlet-balanced, classes, quantity"),
        ({"clients": 11}, "100 training samples cannot give 11 clients at least 10"),
        ({"kind": "classes", "classes_per_client": 6}, "between 1 and the 5 classes"),
        ({"kind": "classes", "classes_per_client": 0}, "between 1 and the 5 classes"),
        ({"kind": "classes", "classes_per_client": 2, "clients": 2}, "at least 3 classes per"),
        ({"kind": "quantity", "quantity_alpha": 0.01, "clients": 9}, "raise quantity-alpha"),
    ],
)
def test_the_impossible_is_refused_with_the_way_out(
    arguments: dict[str, object], message: str
) -> None:
    labels = np.repeat(np.arange(5), 20)
    settings_ = {"kind": "iid", "clients": 4, "seed": 0, **arguments}
    with pytest.raises(PartitionError, match=message):
        partition(labels, **settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "clients", "per_client"),
    [([0] * 300 + [1] * 2, 6, 1), ([0] * 90 + [1] * 90 + [2] * 90 + [3] * 2, 3, 4)],
    ids=["more clients than classes", "fewer clients than classes"],
)
def test_a_class_too_rare_for_its_holders_is_refused(
    labels: list[int], clients: int, per_client: int
) -> None:
    with pytest.raises(PartitionError, match="more images of one class than the data has"):
        partition(
            np.array(labels), kind="classes", clients=clients, classes_per_client=per_client, seed=0
        )


def test_an_assignment_is_the_same_partition() -> None:
    parts = partition(CIFAR, kind="dirichlet", clients=10, seed=0)
    assignment = to_assignment(parts, len(CIFAR))
    for client, part in enumerate(parts):
        np.testing.assert_array_equal(part, np.flatnonzero(assignment == client))


@given(st.integers(0, 1000), st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_largest_remainder_keeps_every_quota(total: int, weights: list[float]) -> None:
    array = np.array(weights) + 1e-9
    parts = largest_remainder(total, array)
    assert sum(parts) == total
    assert np.all(np.abs(np.array(parts) - total * array / array.sum()) < 1 + 1e-6)
