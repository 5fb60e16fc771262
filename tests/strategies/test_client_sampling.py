"""Who is asked in a round depends on seed and round, on nothing else."""

import random

import pytest
import torch

from foundation.messages.participants import MissingClients


@pytest.fixture
def six_clients(make_client):
    return [make_client(torch.ones(k, 1).double(), torch.ones(k).double()) for k in range(1, 7)]


def sampled(run, rounds=8):
    found = []
    for _ in range(rounds):
        run.round()
        found.append(run.strategy.outcome.clients)
    return found


def test_same_seed_same_clients_and_another_seed_others(laboratory, six_clients):
    first = sampled(laboratory(six_clients, strategy="fedavg", fraction_train=0.5))
    again = sampled(laboratory(six_clients, strategy="fedprox", fraction_train=0.5))
    other = sampled(laboratory(six_clients, strategy="fedavg", fraction_train=0.5, seed=1))
    assert first == again
    assert first != other
    assert len(set(first)) > 1
    assert all(len(set(clients)) == 3 for clients in first)


def test_independent_of_the_order_in_which_the_grid_lists_its_nodes(laboratory, six_clients):
    first = sampled(laboratory(six_clients, strategy="fedavg", fraction_train=0.5))
    shuffled = laboratory(six_clients, strategy="fedavg", fraction_train=0.5)
    draw = random.Random(5)
    shuffled.grid.order = lambda nodes: draw.sample(nodes, len(nodes))
    assert sampled(shuffled) == first


def test_independent_of_the_node_ids(laboratory, six_clients):
    """Flower draws node ids anew in every run; clients are known by their partition."""
    first = sampled(laboratory(six_clients, strategy="fedavg", fraction_train=0.5))
    renumbered = laboratory(six_clients, strategy="fedavg", fraction_train=0.5)
    renumbered.grid._partitions = {907 - 3 * index: index for index in range(6)}
    assert sampled(renumbered) == first


def test_everyone_takes_part_sooner_or_later(laboratory, six_clients):
    found = sampled(laboratory(six_clients, strategy="fedavg", fraction_train=1 / 6), 60)
    assert {client for clients in found for client in clients} == set(range(6))


@pytest.mark.parametrize(("fraction", "expected"), [(0.01, 1), (0.5, 3), (0.75, 4), (1.0, 6)])
def test_number_of_clients(laboratory, six_clients, fraction, expected):
    run = laboratory(six_clients, strategy="fedavg", fraction_train=fraction)
    assert len(sampled(run, 1)[0]) == expected


def test_a_node_that_left_is_not_asked_and_too_few_nodes_stop_the_run(laboratory, six_clients):
    run = laboratory(six_clients, strategy="fedavg", min_successful_clients=4, node_timeout=0.2)
    run.round()
    run.grid.online = {0, 2, 3, 5}
    assert sampled(run, 1) == [(0, 2, 3, 5)]
    run.grid.online = {0, 2, 3}
    with pytest.raises(MissingClients, match="3 clients are connected, 4 are needed"):
        run.round()


@pytest.mark.parametrize("name", ["scaffold", "fedacg", "feddyn"])
def test_replies_of_fifty_clients_in_another_order_give_the_same_bits(
    laboratory, make_client, name
):
    draw = torch.Generator().manual_seed(2)
    clients = [
        make_client(
            torch.randn(4 + k % 7, 3, generator=draw).double(),
            torch.randn(4 + k % 7, generator=draw).double(),
        )
        for k in range(50)
    ]
    ordered = laboratory(clients, strategy=name).rounds(2)
    run = laboratory(clients, strategy=name)
    receive = run.grid.send_and_receive
    run.grid.send_and_receive = lambda messages, **kw: receive(messages, **kw)[::-1]
    assert torch.equal(run.rounds(2), ordered)
