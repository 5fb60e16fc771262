"""Messages go out one by one, replies come in as they come, and memory stays flat."""

from __future__ import annotations

import time
import weakref

import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from server_app.exchange import exchange
from simulation.local_grid import LocalGrid


@pytest.fixture
def grid():
    app = ClientApp()

    @app.query("echo")
    def echo(message, context):
        return Message(RecordDict(), reply_to=message)

    return LocalGrid(app, 30)


def messages(nodes):
    return (Message(RecordDict(), node, "query.echo") for node in nodes)


def test_every_reply_comes_once_and_without_waiting(grid):
    started = time.perf_counter()
    replies = [r.metadata.src_node_id for r in exchange(grid, messages(grid.get_node_ids()), 60)]
    assert sorted(replies) == grid.get_node_ids()
    assert time.perf_counter() - started < 2.0, "it polls where replies are ready"


def test_one_reply_is_alive_at_a_time(grid):
    alive = []
    for reply in exchange(grid, messages(grid.get_node_ids()), 60):
        alive.append(weakref.ref(reply.content))
        del reply
    assert all(reference() is None for reference in alive[:-1])


def test_gives_up_when_the_time_is_over(grid):
    grid.pull_messages = lambda identities: []
    started = time.perf_counter()
    assert list(exchange(grid, messages([100]), 0.25)) == []
    assert 0.2 < time.perf_counter() - started < 5.0


def test_nobody_asked_nobody_answers(grid):
    assert list(exchange(grid, messages([]), 60)) == []
