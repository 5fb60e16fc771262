"""Which local models are kept for the post-training hook: those of the last rounds."""

from __future__ import annotations

import torch


def test_models_of_the_last_rounds_are_invertible_and_older_ones_are_deleted(
    laboratory, curved_clients
):
    lab = laboratory(curved_clients, fraction_train=0.5, generation__rounds=2)
    taken: dict[int, dict[int, torch.Tensor]] = {}

    def note(client, reply):
        state = reply.content["arrays"].to_torch_state_dict()
        taken.setdefault(lab.server_round, {})[client] = state["weight"].clone()
        return reply

    lab.grid.touch = note
    for server_round in range(1, 7):
        lab.round()
        expected: dict[int, tuple[int, ...]] = {}
        for at in range(max(1, server_round - 1), server_round + 1):
            for client in taken[at]:
                expected[client] = (*expected.get(client, ()), at)
        strategy = lab.strategy
        assert strategy.invertible_models() == expected
        assert strategy.versions()["local_models"] == expected
        for client, rounds in expected.items():
            for at in rounds:
                stored = strategy.local_models.read(client, at)["weight"]
                assert torch.equal(stored, taken[at][client])
        strategy.declare(strategy.versions())
        strategy.prune()
        files = list(strategy.local_models.directory.iterdir())
        assert len(files) == sum(len(rounds) for rounds in expected.values())


def test_a_strategy_that_needs_them_keeps_older_ones_too(laboratory, curved_clients):
    lab = laboratory(curved_clients, strategy="moon", fraction_train=0.5, generation__rounds=1)
    for _ in range(8):
        lab.round()
    strategy = lab.strategy
    kept, invertible = strategy.versions()["local_models"], strategy.invertible_models()
    assert set(kept) == {0, 1, 2, 3}
    assert len(invertible) == 2 and all(kept[client] == at for client, at in invertible.items())
