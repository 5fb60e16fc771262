"""Dividing one labelled data set: over simulated clients, or into parts of the same class shares.

Every kind returns disjoint index arrays that together hold every row, each ascending (the fast way
to read a memory-mapped file), and depends on nothing but the labels, its parameters and the seed.

A Dirichlet division is drawn again until every client has its least number of rows: for beta =
0.05, 44 draws in the median to give 20 clients of the digits ten images each (100 seeds). So it is
drawn as counts first, for many draws at once.

Q. Li, Y. Diao, Q. Chen, B. He: Federated Learning on Non-IID Data Silos: An Experimental Study,
ICDE 2022 (NIID-Bench): label distribution skew (section III-A), quantity skew (III-C). The two
Dirichlet divisions of the literature differ: NIID-Bench divides each class over the clients, whose
sizes then differ much; FedDyn's program gives clients of one size shares of the classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from foundation.errors import PartitionError

Indices = npt.NDArray[np.int64]

PARTITIONS = ("iid", "dirichlet", "dirichlet-balanced", "classes", "quantity")

#: A class of so many images gives at least one to those that are held out.
HELD_OUT_FROM = 10

_MOST_DRAWS = 1000
# How many draws are judged together. Part of the stream of random numbers: changing it changes
# every Dirichlet partition.
_DRAWS_AT_ONCE = 50


def partition(
    labels: npt.NDArray[np.int64],
    *,
    kind: str,
    clients: int,
    seed: int,
    dirichlet_alpha: float = 0.05,
    classes_per_client: int = 2,
    quantity_alpha: float = 0.5,
    min_samples: int = 10,
) -> list[Indices]:
    """Divide the rows of a data set, by their labels, over clients.

    ``iid``: equal random parts. ``dirichlet``: every class is divided by proportions drawn from a
    Dirichlet distribution of concentration `dirichlet_alpha` (beta in NIID-Bench, in its
    self-balancing form); the smaller, the more skewed. ``dirichlet-balanced``: equally large parts,
    each of which draws its own shares of the classes from that distribution. ``classes``: every
    client holds `classes_per_client` classes. ``quantity``: random parts whose sizes are drawn from
    a Dirichlet distribution of concentration `quantity_alpha`. ``dirichlet`` and ``quantity`` are
    drawn again until every client has `min_samples` rows, a thousand times at most.

    An unknown kind, more clients than the data can feed, and no draw that gives every client its
    rows are a PartitionError.
    """
    labels = np.asarray(labels)
    _check(labels, kind, clients, min_samples)
    rng = np.random.default_rng(seed)
    if kind == "iid":
        rows = rng.permutation(len(labels))
        parts = [np.sort(part) for part in np.array_split(rows, clients)]
    elif kind == "dirichlet-balanced":
        parts = _balanced(labels, clients, dirichlet_alpha, rng)
    elif kind == "classes":
        parts = _classes(labels, clients, classes_per_client, rng)
    else:
        alpha = dirichlet_alpha if kind == "dirichlet" else quantity_alpha
        parts = _drawn(labels, kind, alpha, clients, min_samples, rng)
    smallest = min(len(part) for part in parts)
    if smallest < min_samples:
        client = min(range(clients), key=lambda index: len(parts[index]))
        raise PartitionError(
            f"partition '{kind}' gives client {client} {smallest} samples, fewer than the "
            f"{min_samples} asked for: use fewer clients or lower min-partition-size"
        )
    return parts


def to_assignment(parts: Sequence[Indices], samples: int) -> npt.NDArray[np.int32]:
    """Write a partition as one client number per row, int32 of shape (samples,)."""
    assignment = np.full(samples, -1, dtype=np.int32)
    for client, part in enumerate(parts):
        assignment[part] = client
    return assignment


def _check(labels: npt.NDArray[np.int64], kind: str, clients: int, min_samples: int) -> None:
    if kind not in PARTITIONS:
        raise PartitionError(f"unknown partition '{kind}': choose one of {', '.join(PARTITIONS)}")
    if clients * min_samples > len(labels):
        raise PartitionError(
            f"{len(labels)} training samples cannot give {clients} clients at least {min_samples} "
            f"each: use at most {len(labels) // min_samples} clients (fewer, where the "
            "partition is uneven) or lower min-partition-size"
        )


def _classes(
    labels: npt.NDArray[np.int64], clients: int, per_client: int, rng: np.random.Generator
) -> list[Indices]:
    present = np.unique(labels)
    if not 1 <= per_client <= len(present):
        raise PartitionError(
            f"classes-per-client must be between 1 and the {len(present)} classes of the data, "
            f"not {per_client}"
        )
    if clients * per_client < len(present):
        raise PartitionError(
            f"{clients} clients with {per_client} classes each cannot hold all {len(present)} "
            f"classes: use at least {-(-len(present) // clients)} classes per client or "
            f"{-(-len(present) // per_client)} clients"
        )
    if clients < len(present):
        hands = _dealt_hands(clients, per_client, len(present), rng)
        rows = [rng.permutation(np.flatnonzero(labels == label)) for label in present]
    else:
        drawn_from = np.random.default_rng(int(rng.integers(2**31)))
        hands = _drawn_hands(clients, per_client, len(present), drawn_from)
        order = rng.permutation(len(labels))
        rows = [order[labels[order] == label] for label in present]
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for index, rows_of_class in enumerate(rows):
        holders = [client for client, hand in enumerate(hands) if index in hand]
        if len(holders) > len(rows_of_class):
            raise PartitionError(
                f"{clients} clients with {per_client} classes each need more images of one class "
                "than the data has: use fewer clients or fewer classes per client"
            )
        shares = np.array_split(rows_of_class, len(holders))
        for client, share in zip(holders, shares, strict=True):
            parts[client].append(share)
    return [np.sort(np.concatenate(part)) for part in parts]


def _drawn_hands(
    clients: int, per_client: int, classes: int, rng: np.random.Generator
) -> list[list[int]]:
    """Draw which classes each of at least as many clients as classes holds.

    NIID-Bench's rule: client i holds class i mod K, its others are drawn. No class is left out.
    """
    hands = [[client % classes] for client in range(clients)]
    for hand in hands:
        while len(hand) < per_client:
            drawn = int(rng.integers(classes))
            if drawn not in hand:
                hand.append(drawn)
    return hands


def _dealt_hands(
    clients: int, per_client: int, classes: int, rng: np.random.Generator
) -> list[list[int]]:
    """Deal the shuffled classes to fewer clients than classes, round like cards.

    NIID-Bench's rule would leave classes to nobody here.
    """
    deck: list[int] = []
    while len(deck) < clients * per_client:
        deck.extend(rng.permutation(classes).tolist())
    hands: list[list[int]] = [[] for _ in range(clients)]
    for hand in hands:
        # The first card the hand does not hold yet; the first `classes` cards are distinct, so
        # they all leave the deck before any class is dealt twice.
        while len(hand) < per_client:
            position = next(i for i, card in enumerate(deck) if card not in hand)
            hand.append(deck.pop(position))
    return hands


def _drawn(
    labels: npt.NDArray[np.int64],
    kind: str,
    alpha: float,
    clients: int,
    min_samples: int,
    rng: np.random.Generator,
) -> list[Indices]:
    """Divide every class by proportions drawn for it, or (``quantity``) all rows as one class."""
    if by_class := kind == "dirichlet":
        classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    else:
        classes = [np.arange(len(labels))]
    totals = np.array([len(rows) for rows in classes])
    counts, best = _draw_counts(totals, clients, alpha, min_samples, rng, by_class=by_class)
    if counts is None:
        raise PartitionError(
            f"partition '{kind}': none of {_MOST_DRAWS} draws with {kind}-alpha = {alpha:g} gave "
            f"each of {clients} clients {min_samples} samples (the best draw's smallest client had "
            f"{max(best, 0)}): raise {kind}-alpha, use fewer clients or lower min-partition-size"
        )
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for rows, counts_of_class in zip(classes, counts, strict=True):
        ends = np.cumsum(counts_of_class)[:-1]
        for part, chunk in zip(parts, np.split(rng.permutation(rows), ends), strict=True):
            part.append(chunk)
    return [np.sort(np.concatenate(part)) for part in parts]


def _draw_counts(
    totals: npt.NDArray[np.int64],
    clients: int,
    alpha: float,
    min_samples: int,
    rng: np.random.Generator,
    *,
    by_class: bool = True,
) -> tuple[Indices | None, int]:
    """Draw how many rows of each class each client gets, shape (classes, clients).

    Draws are independent of one another, classes within a draw are not (a full client gets no
    more), so the loop goes over classes and the arrays over draws. Also returns the rows of the
    smallest client in the best draw.
    """
    average, best = totals.sum() / clients, -1
    draws, rounded = (_DRAWS_AT_ONCE, np.floor) if by_class else (_MOST_DRAWS, np.rint)
    for _ in range(0, _MOST_DRAWS, draws):
        proportions = rng.dirichlet(np.full(clients, alpha), size=(draws, len(totals)))
        counts = np.empty((draws, len(totals), clients), dtype=np.int64)
        held = np.zeros((draws, clients), dtype=np.int64)
        valid = np.ones(draws, dtype=bool)
        for index, total in enumerate(totals):
            shares = proportions[:, index] * (held < average)
            sums = shares.sum(axis=1, keepdims=True)
            # At tiny alpha all weight can sit on clients that are full: such a draw divides by
            # zero in the original, here it counts as one that was not met.
            valid &= sums[:, 0] > 0
            shares = shares / np.where(sums > 0, sums, 1.0)
            ends = rounded(np.cumsum(shares, axis=1) * total).astype(np.int64)
            ends[:, -1] = total
            counts[:, index] = np.diff(ends, axis=1, prepend=0)
            held += counts[:, index]
        smallest = np.where(valid, held.min(axis=1), -1)
        best = max(best, int(smallest.max()))
        if best >= min_samples:
            return counts[np.argmax(smallest >= min_samples)], best
    return None, best


def _balanced(
    labels: npt.NDArray[np.int64], clients: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    """Give clients of one size, in random turns, an image of a class drawn from their own shares.

    A class that has run out is drawn no more, so that the last turns take what is left. Acar et
    al.: Federated Learning Based on Dynamic Regularization, ICLR 2021 (their program); so do
    FedACG and Co-Boosting. The latter's program draws until it meets a class that is left: at a
    concentration of 0.1, practically for ever.
    """
    present, totals = np.unique(labels, return_counts=True)
    shares = rng.dirichlet(np.full(len(present), alpha), size=clients)
    turns = rng.permutation(np.arange(len(labels)) % clients)
    drawn = rng.random(len(labels))
    left = totals.copy()
    taker_of = [np.empty(total, dtype=np.int64) for total in totals]
    for client, at in zip(turns, drawn, strict=True):
        weights = shares[client] * (left > 0)
        if not weights.any():  # all that this client would take is gone
            weights = left.astype(np.float64)
        sums = np.cumsum(weights)
        index = int(np.searchsorted(sums, at * sums[-1], side="right"))
        left[index] -= 1
        taker_of[index][left[index]] = client
    taker = np.empty(len(labels), dtype=np.int64)
    for label, takers in zip(present, taker_of, strict=True):
        taker[rng.permutation(np.flatnonzero(labels == label))] = takers
    return [np.flatnonzero(taker == client) for client in range(clients)]


def stratified_split(
    labels: npt.NDArray[np.int64],
    fraction: float,
    seed: int | Sequence[int],
    *,
    at_least_one_of: int = 0,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split rows into a large and a small part with the same class shares, both ascending.

    scikit-learn's refuses a class with a single image, which here stays in the large part. The
    small part gets `fraction` of every class, in [0, 1), rounded to whole images; with
    `at_least_one_of` n, at least one of a class of n or more.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen[rows[: _share_of(len(rows), fraction, at_least_one_of)]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def split_by_content(
    labels: npt.NDArray[np.integer],
    digests: npt.NDArray[np.uint8],
    fraction: float,
    *,
    at_least_one_of: int = 0,
) -> tuple[Indices, Indices]:
    """Split rows as `stratified_split` does, by what the images are and not by where they stand.

    Of every class, the images whose digests are smallest go to the small part. A file that is
    renamed, moved or copied stays in its part, and so do all copies of an image. `digests`, uint8
    (n, bytes), are equal for equal images.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        ranked = rows[np.lexsort(digests[rows].T[::-1])]
        # Where an image differs from the one before: only there can the parts be cut.
        differs = (digests[ranked[1:]] != digests[ranked[:-1]]).any(axis=1)
        cuts = np.append(0, np.flatnonzero(differs) + 1)
        wanted = _share_of(len(rows), fraction, at_least_one_of)
        chosen[ranked[: min(cuts, key=lambda cut: abs(cut - wanted))]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _share_of(rows: int, fraction: float, at_least_one_of: int) -> int:
    count = round(fraction * rows)
    if fraction > 0 and 0 < at_least_one_of <= rows:
        count = max(count, 1)
    # Never the whole class: training needs it more than a measurement does.
    return min(count, rows - 1)


def stratified_subset(labels: npt.NDArray[np.int64], size: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose exactly ``size`` rows whose class shares are those of the whole, within one image."""
    if size >= len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    present, totals = np.unique(labels, return_counts=True)
    counts = largest_remainder(size, totals)
    parts = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in zip(present, counts, strict=True)
    ]
    return np.sort(np.concatenate(parts))


def largest_remainder(total: int, weights: npt.ArrayLike) -> list[int]:
    """Split a whole number in proportion to weights, into whole numbers (Hamilton's method).

    Every part is its exact quota rounded down or up, and the parts sum to ``total``; among equal
    remainders the first gets the unit. Weights (parts,) are finite, 0 or more, not all 0.
    """
    values = np.asarray(weights, dtype=np.float64)
    quotas = total * values / values.sum()
    parts = np.floor(quotas).astype(np.int64)
    missing = total - int(parts.sum())
    order = np.argsort(-(quotas - parts), kind="stable")
    parts[order[:missing]] += 1
    return [int(part) for part in parts]
