"""Clients that go and come back: their places, and how long they are waited for."""

import json
import time
from dataclasses import replace

import pytest
import torch
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from client_app import site
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.messages.participants import MissingClients, Participant
from questions.description import DescriptionRequest
from tests.meeting import meeting


@pytest.fixture
def grid():
    """Return a grid of three real sites: nodes without a partition."""
    app = ClientApp()

    @app.query("describe")
    def describe(message, context):
        metrics = {"num-examples": context.node_id, "partition-id": -1, "num-partitions": 0}
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    made = LocalGrid(app, 3)
    made._partitions = {30: 0, 10: 1, 20: 2}
    return made


@pytest.mark.parametrize(
    ("strategy", "place"), [("scaffold", "server"), ("moon", "client"), ("fednova", "client")]
)
def test_clients_restarted_before_every_message_change_nothing(
    tiny_run, monkeypatch, strategy, place
):
    """No strategy keeps anything on a client: there is no state to lose or to mix up."""
    keys = {"strategy": strategy, "fraction_train": 0.67, "generation__place": place}
    lasting = tiny_run("lasting", **keys)
    reply = LocalGrid._reply
    restarts = []

    def forgetful(grid, message):
        grid._contexts.clear()
        for memory in (site.Site.data, site.Site.batches, site._resident_model):
            memory.cache_clear()
        restarts.append(message.metadata.message_type)
        return reply(grid, message)

    monkeypatch.setattr(LocalGrid, "_reply", forgetful)
    restarted = tiny_run("restarted", **keys)
    assert restarts.count("train") == 2 * (3 + 1)
    assert restarted.events() == lasting.events()
    assert restarted.summary() == lasting.summary()
    assert restarted.pseudo_data() == lasting.pseudo_data()
    for name, value in lasting.model().items():
        assert torch.equal(restarted.model()[name], value), name


def test_a_resumed_run_gives_every_node_its_index_back(grid):
    first = meeting(3, 1.0)
    first.discover(grid)
    assert [first[client].node_id for client in range(3)] == [10, 20, 30]
    # The node that was client 0 is gone; a new one would sort before all others.
    grid._partitions = {30: 0, 20: 1, 5: 2}
    resumed = meeting(3, 1.0)
    resumed.recall(first.remember())
    resumed.discover(grid)
    assert {client: resumed[client].node_id for client in resumed.clients} == {
        0: 10,
        1: 20,
        2: 30,
        3: 5,
    }
    assert resumed.available == [1, 2, 3]


def test_a_resumed_run_knows_the_name_and_the_held_out_images_of_a_site_that_is_away(
    grid, monkeypatch
):
    """It is a judge that did not answer, and not a client that has no image to judge with."""
    told = Participant(-1, 0, 10, held_out=(2, 3), site_name="Clinic North")
    monkeypatch.setattr(
        DescriptionRequest,
        "checked",
        lambda request, who, reply: replace(told, node_id=who.node_id),
    )
    first = meeting(3, 0.2)
    first.discover(grid)
    del grid._partitions[20]
    resumed = meeting(3, 0.2)
    # Through JSON, as a checkpoint does.
    resumed.recall(json.loads(json.dumps(first.remember())))
    resumed.discover(grid, at_least=2)
    assert resumed.available == [0, 2]
    assert resumed[1] == first[1]
    assert resumed[1].held_out == (2, 3)
    assert resumed.names() == first.names()


def test_a_resumed_run_goes_on_without_a_site_that_is_gone(grid, app_log):
    first = meeting(3, 0.2)
    first.discover(grid)
    del grid._partitions[20]
    resumed = meeting(3, 0.2)
    resumed.recall(first.remember())
    with pytest.raises(MissingClients, match="2 of 3 clients"):
        resumed.discover(grid, at_least=3)
    resumed.discover(grid, at_least=2)
    assert resumed.clients == [0, 1, 2]
    assert resumed.available == [0, 2]
    assert "2 of 3 clients were connected after 0.2 s: going on" in app_log.text


def test_a_new_run_does_not(grid):
    del grid._partitions[20]
    with pytest.raises(MissingClients, match="2 of 3 clients"):
        meeting(3, 0.2).discover(grid, at_least=2)


def test_a_site_that_vanishes_while_it_is_asked_is_waited_for(grid):
    """Right after a power cut the SuperLink takes nodes for connected that are not."""
    pull, answered = grid.pull_messages, []

    def one_is_gone(identities):
        (reply,) = pull(identities)
        answered.append(reply.metadata.src_node_id)
        if len(answered) == 1:
            error = Message(Error(ErrorCode.NODE_UNAVAILABLE, "gone"), reply_to=reply)
            error.metadata.__dict__.update(reply.metadata.__dict__, _src_node_id=1)
            return [error]
        return [reply]

    grid.pull_messages = one_is_gone
    participants = meeting(3, 5.0)
    participants.discover(grid)
    assert participants.available == [0, 1, 2]
    assert len(answered) == 4
    assert answered[3] == answered[0]


def test_a_returning_site_may_have_other_data(grid):
    participants = meeting(3, 1.0)
    participants.recall({"0": {"node_id": 10, "num_examples": 999}})
    participants.discover(grid)
    assert participants[0].num_examples == 10


def test_simulated_clients_are_known_by_their_partition_alone():
    participants = meeting(3, 1.0)
    participants.simulated = True
    assert participants.remember() == {}


def test_clients_that_are_needed_are_waited_for(grid):
    participants = meeting(3, 10.0)
    participants.discover(grid)
    all_nodes = dict(grid._partitions)
    grid._partitions = {30: 0}
    looked = []

    def back_at_the_third_look():
        looked.append(1)
        if len(looked) >= 3:
            grid._partitions = all_nodes
        return list(grid._partitions)

    grid.get_node_ids = back_at_the_third_look
    participants.refresh(grid, at_least=2)
    assert participants.available == [0, 1, 2]


def test_but_not_for_ever(grid):
    participants = meeting(3, 0.6)
    participants.discover(grid)
    grid._partitions = {30: 0}
    started = time.monotonic()
    participants.refresh(grid, at_least=2)
    assert time.monotonic() - started < 5
    assert participants.available == [2]
