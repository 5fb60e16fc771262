"""Asking clients: checked answers and named failures, in the order of the clients."""

import gc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedf2dg.simulation.local_grid import LocalGrid
from foundation.messages.exchange import exchange
from foundation.messages.gather import NO_REPLY, NOT_CONNECTED, gather, sort_replies
from foundation.messages.records import InvalidContent


@pytest.fixture
def grid():
    app = ClientApp()

    @app.query("echo")
    def echo(message, context):
        number = message.content["metrics"]["number"]
        if number == 13:
            raise ArithmeticError("unlucky")
        return Message(
            RecordDict({"metrics": MetricRecord({"twice": 2 * number})}), reply_to=message
        )

    return LocalGrid(app, 6)


def question(number):
    return RecordDict({"metrics": MetricRecord({"number": number})})


def twice(client, content):
    value = content["metrics"]["twice"]
    if value > 100:
        raise InvalidContent("too large")
    return value


def test_answers_and_failures_are_by_client_and_in_order(grid):
    numbers = {5: 5, 1: 1, 4: 13, 0: 60, 2: 2}
    addresses = {client: 100 + client for client in numbers} | {3: None}
    seen = []
    gathered = gather(
        grid,
        addresses,
        "query.echo",
        lambda client: question(numbers[client]),
        twice,
        60,
        lambda done, total: seen.append((done, total)),
    )
    assert list(gathered.valid.items()) == [(1, 2), (2, 4), (5, 10)]
    assert list(gathered.failures.items()) == [
        (0, "too large"),
        (3, NOT_CONNECTED),
        (4, "ArithmeticError: unlucky"),
    ]
    assert gathered.refused == {0, 4}
    assert seen == [(done, 5) for done in range(1, 6)]


def replies_of(grid, clients):
    messages = (Message(question(client), 100 + client, "query.echo") for client in clients)
    return list(exchange(grid, messages, 60))


def failed(reply, reason, node=None):
    error = Message(Error(5, reason), reply_to=reply)
    error.metadata.__dict__["_src_node_id"] = node or reply.metadata.src_node_id
    return error


def test_who_vanished_under_another_id_is_named_by_elimination(grid):
    first, second = replies_of(grid, [0, 1])
    gathered = sort_replies(
        [first, failed(second, "Node Unavailable", node=1)], {0: 100, 1: 101}, twice
    )
    assert gathered.valid == {0: 0}
    assert gathered.failures == {1: "Node Unavailable"}
    assert gathered.refused == frozenset()


def test_an_error_of_a_client_that_answered_is_nobody_elses(grid):
    first, _ = replies_of(grid, [0, 1])
    gathered = sort_replies([first, failed(first, "late")], {0: 100, 1: 101}, twice)
    assert gathered.valid == {0: 0}
    assert gathered.failures == {1: NO_REPLY}


@pytest.mark.parametrize("bad_first", [True, False])
def test_a_clients_first_reply_counts(grid, bad_first):
    (reply,) = replies_of(grid, [2])
    both = [failed(reply, "broken"), reply]
    gathered = sort_replies(both if bad_first else both[::-1], {2: 102}, twice)
    assert gathered.valid == ({} if bad_first else {2: 4})
    assert gathered.failures == ({2: "broken"} if bad_first else {})


def test_strangers_are_left_aside(grid):
    known, stranger = replies_of(grid, [0, 1])
    gathered = sort_replies([stranger, known], {0: 100}, twice)
    assert (gathered.valid, gathered.failures) == ({0: 0}, {})


class Heavy(RecordDict):
    """A content with a size; counts how many of its kind are alive."""

    alive = 0
    most = 0

    def __init__(self, *given):
        super().__init__(*given)
        Heavy.alive += 1
        Heavy.most = max(Heavy.most, Heavy.alive)

    def __del__(self):
        Heavy.alive -= 1


@pytest.mark.parametrize("window", [1, 3])
def test_no_more_messages_are_alive_than_the_grid_has_use_for(grid, window):
    """Of messages that hold a model each, SCAFFOLD, MOON and local would fill the memory."""
    gc.collect()
    Heavy.alive = Heavy.most = 0
    grid.window = window

    def content(client):
        array = Array(np.zeros(100_000))
        heavy = Heavy({"arrays": ArrayRecord({"model": array})})
        heavy["metrics"] = MetricRecord({"number": client})
        return heavy

    gathered = gather(
        grid, {client: 100 + client for client in range(6)}, "query.echo", content, twice, 60
    )
    assert len(gathered.valid) == 6
    assert Heavy.most == window
    assert Heavy.alive == 0
