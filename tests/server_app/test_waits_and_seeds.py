"""Promises of the documentation: every wait ends, and every use of the seed has its own numbers."""

import sys
from collections import defaultdict
from typing import Any

from foundation import seeds
from foundation.messages import gather

EVERYTHING = {
    "post_training": "calibration,fedf2dg",
    "batch_norm": "measured",
    "evaluation": "both",
    "generation__place": "client",
    "generation__batches": 2,
    "competition__rounds": 2,
    "train_samples": 120,
}


def test_round_timeout_bounds_every_wait_for_clients(tiny_run, monkeypatch) -> None:
    waits: dict[str, set[float]] = defaultdict(set)
    exchange = gather.exchange

    def watched(grid: Any, messages: Any, timeout: float) -> Any:
        def seen() -> Any:
            for message in messages:
                waits[message.metadata.message_type].add(timeout)
                yield message

        return exchange(grid, seen(), timeout)

    monkeypatch.setattr(gather, "exchange", watched)
    tiny_run("run", round_timeout=1234.5, node_timeout=200.0, **EVERYTHING)
    # Who joins is waited for by a key of its own.
    assert waits.pop("query.describe") == {200.0}
    assert len(waits) >= 3, waits
    assert set.union(*waits.values()) == {1234.5}


def test_no_two_uses_of_a_seed_share_their_random_numbers(tiny_run, monkeypatch) -> None:
    uses: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    derived = seeds.derived_seed

    def watched(seed: int, purpose: int, *position: int) -> int:
        found = derived(seed, purpose, *position)
        uses[found].add((seed, purpose, *position))
        places[seed, purpose, *position].add(sys._getframe(1).f_code.co_qualname)
        return found

    places: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for module in list(sys.modules.values()):
        if getattr(module, "derived_seed", None) is derived:
            monkeypatch.setattr(module, "derived_seed", watched)
    tiny_run("run", **{**EVERYTHING, "generation__place": "server"})
    assert {purpose for _, purpose, *_ in places} >= {
        seeds.TRAINING,
        seeds.MODEL,
        seeds.GENERATION,
        seeds.DISTILLATION,
        seeds.LABELS,
        seeds.INVERSION,
    }
    assert all(len(named) == 1 for named in uses.values())
    assert all(len(callers) == 1 for callers in places.values()), places
