"""Meeting the clients: stable indices, and what makes a federation impossible."""

from dataclasses import replace

import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedf2dg.simulation.local_grid import LocalGrid
from foundation.messages import participants as participants_module
from foundation.messages.participants import MissingClients
from foundation.settings.configuration import ConfigurationError
from tests.meeting import meeting


def grid_of(answer, nodes):
    app = ClientApp()

    @app.query("describe")
    def describe(message, context):
        metrics = answer(context.node_config["partition-id"])
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    return LocalGrid(app, nodes)


def says(num_examples=10, partition=None, partitions=0):
    return lambda index: {
        "num-examples": num_examples,
        "partition-id": index if partition is None else partition,
        "num-partitions": partitions,
    }


def remembered(*nodes):
    """What a checkpoint holds of clients with ten images each."""
    return {str(i): {"node_id": node, "num_examples": 10} for i, node in enumerate(nodes)}


def test_clients_are_known_by_their_partition():
    grid = grid_of(says(), 3)
    grid._partitions = {31: 2, 77: 0, 5: 1}
    participants = meeting(3, 1.0)
    participants.discover(grid)
    assert participants.clients == participants.available == [0, 1, 2]
    assert [participants[c].node_id for c in range(3)] == [77, 5, 31]
    assert participants.addresses([2, 0]) == {2: 31, 0: 77}


def test_nodes_without_partition_get_indices_in_the_order_of_node_ids():
    grid = grid_of(says(partition=-1), 3)
    participants = meeting(3, 1.0)
    participants.discover(grid)
    assert [participants[c].node_id for c in range(3)] == [100, 101, 102]


@pytest.mark.parametrize("nodes", [2, 5])
def test_another_number_of_simulated_nodes_names_the_command(nodes):
    with pytest.raises(ConfigurationError) as error:
        meeting(3, 1.0).discover(grid_of(says(partitions=nodes), nodes))
    text = str(error.value)
    assert f"{nodes} nodes, but num-clients = 3" in text
    assert f'--run-config "num-clients={nodes}"' in text
    assert "num-supernodes=3" in text


def test_missing_nodes_are_waited_for_and_then_named():
    with pytest.raises(MissingClients, match=r"2 of 3 clients were connected after 0\.2 s"):
        meeting(3, 0.2).discover(grid_of(says(), 2))


def test_some_real_sites_suffice_where_the_run_says_so():
    participants = meeting(3, 0.2)
    participants.discover(grid_of(says(), 2), to_start=2)
    assert participants.available == [0, 1]
    with pytest.raises(MissingClients, match="1 of 3 clients"):
        meeting(3, 0.2).discover(grid_of(says(), 1), to_start=2)
    # Parts of one data set are all in this simulation, or something is wrong with it.
    with pytest.raises(MissingClients, match="2 of 3 clients"):
        meeting(3, 0.2).discover(grid_of(says(partitions=3), 2), to_start=2)


def test_nodes_that_come_late_are_waited_for():
    grid = grid_of(says(), 3)
    calls = []
    grid.get_node_ids = lambda: calls.append(1) or ([] if len(calls) < 3 else [100, 101, 102])
    participants = meeting(3, 5.0)
    participants.discover(grid)
    assert len(participants) == 3


def test_two_nodes_with_one_partition_are_refused():
    with pytest.raises(ConfigurationError, match="two connected nodes claim partition-id 1"):
        meeting(2, 1.0).discover(grid_of(says(partition=1), 2))


@pytest.mark.parametrize(
    "answer",
    [
        says(num_examples=0),
        says(num_examples=-5),
        says(num_examples=10**18),
        says(partition=10**12),
        lambda index: {"num-examples": 3},
        lambda index: {**says()(index), "partition-id": [1]},
        lambda index: {**says()(index), "num-examples": float("nan")},
        lambda index: {**says()(index), "held-out": [-1, 2, 3]},
        # Sums over clients are by class: others than the federation's cannot be added up.
        lambda index: {**says()(index), "held-out": [1, 2]},
        lambda index: {**says()(index), "held-out": [5]},
        lambda index: {**says()(index), "label-counts": [5, 5]},
        lambda index: {**says()(index), "label-counts": [5, 5, 1]},
        lambda index: {**says()(index), "label-counts": [11, -1, 0]},
    ],
)
def test_an_impossible_description_stops_the_start(answer):
    with pytest.raises(MissingClients, match="node 100"):
        meeting(1, 1.0, columns=3).discover(grid_of(answer, 1))


def test_all_that_refuse_are_named_at_once():
    def refuse(index):
        if index:
            raise RuntimeError(f"site {index}: images are 16x16 pixels")
        return says()(index)

    with pytest.raises(MissingClients) as error:
        meeting(3, 1.0).discover(grid_of(refuse, 3))
    assert str(error.value) == (
        "2 clients refused to take part: node 101: RuntimeError: site 1: images are 16x16 pixels; "
        "node 102: RuntimeError: site 2: images are 16x16 pixels"
    )


def test_a_refusal_is_told_with_its_reason():
    def refuse(index):
        raise RuntimeError("this client runs other code")

    with pytest.raises(MissingClients, match="this client runs other code"):
        meeting(2, 1.0).discover(grid_of(refuse, 2))


def test_a_late_refusal_at_the_start_is_told_with_its_reason():
    """The others were there first: the reason must not be lost in "the federation has 2 nodes"."""

    def answer(index):
        if index == 2:
            raise RuntimeError("no data here")
        return says()(index)

    grid = grid_of(answer, 3)
    calls = []
    grid.get_node_ids = lambda: (
        calls.append(1) or ([100, 101] if len(calls) < 2 else [100, 101, 102])
    )
    with pytest.raises(MissingClients, match="no data here"):
        meeting(3, 5.0).discover(grid)


@pytest.mark.parametrize(
    "answer",
    [
        says(num_examples=-1),
        says(partition=10**12),
        says(partition=0),
        says(partitions=7),
        lambda index: {"nonsense": 1},
    ],
)
def test_a_newcomer_that_talks_nonsense_does_not_stop_a_running_federation(answer, app_log):
    grid = grid_of(lambda index: answer(index) if index == 2 else says()(index), 3)
    grid.get_node_ids = lambda: [100, 101]
    participants = meeting(2, 1.0)
    participants.discover(grid)
    grid.get_node_ids = lambda: [100, 101, 102]
    participants.refresh(grid)
    assert participants.clients == participants.available == [0, 1]
    assert participants[0].node_id == 100
    assert "node 102" in app_log.text


def test_nobody_takes_the_place_of_a_client_that_is_away(app_log):
    """What the server keeps of a client, its model first of all, would be sent to the newcomer."""
    grid = grid_of(says(), 2)
    participants = meeting(2, 1.0)
    participants.discover(grid)
    grid._partitions = {100: 0, 555: 1}
    participants.refresh(grid)
    assert participants[1].node_id == 101
    assert participants.addresses([0, 1]) == {0: 100, 1: None}
    assert participants.available == [0]
    assert "partition-id 1, which is the place of node 101, which is away" in app_log.text
    # Nor is it asked again: at a real site, each question starts a process.
    ask, asked = grid.push_messages, []
    grid.push_messages = lambda messages: asked.append(1) or ask(messages)
    participants.refresh(grid)
    assert asked == []


def test_nor_after_a_resume():
    grid = grid_of(says(), 2)
    participants = meeting(2, 1.0)
    participants.recall(remembered(100, 101))
    grid._partitions = {555: 0, 101: 1}
    with pytest.raises(
        MissingClients, match=r"1 of 2 clients .* 0, which is the place of node 100"
    ):
        participants.discover(grid)
    # Others do not have to wait for it.
    participants.discover(grid, at_least=1)
    assert participants.available == [1]
    assert participants[0].node_id == 100


@pytest.mark.parametrize("identity", ["node-id", "partition-id"])
def test_a_node_never_has_two_places(identity):
    grid = grid_of(says(), 2)
    participants = meeting(2, 0.3, identity=identity)
    participants.recall(remembered(100, 101, 102))
    grid._partitions = {101: 0, 102: 2}
    if identity == "node-id":
        with pytest.raises(MissingClients, match="claims partition-id 0, and was client 1"):
            participants.discover(grid)
        return
    participants.discover(grid)
    assert participants.clients == [0, 1, 2]
    assert participants.available == [0, 2]
    assert participants.addresses([0, 1, 2]) == {0: 101, 1: None, 2: 102}


def test_while_a_run_starts_a_place_is_nobodys_yet():
    grid = grid_of(says(), 2)
    looks = iter([[100], [100], [100, 555]])
    grid.get_node_ids = lambda: next(looks)
    grid._partitions = {100: 0, 555: 1}
    participants = meeting(2, 5.0)
    participants._meet(grid, {100})
    participants._by_client[1] = replace(participants[0], client=1, node_id=101)
    participants.discover(grid)
    assert participants[1].node_id == 555


def test_a_restarted_node_without_a_key_takes_its_clients_place_if_that_is_wished():
    grid = grid_of(says(), 2)
    participants = meeting(2, 1.0, identity="partition-id")
    participants.discover(grid)
    grid._partitions = {100: 0, 555: 1}
    participants.refresh(grid)
    assert participants[1].node_id == 555
    assert participants.addresses([1]) == {1: 555}
    assert participants.available == [0, 1]


def test_a_node_that_left_is_not_available_but_known():
    grid = grid_of(says(), 2)
    participants = meeting(2, 1.0)
    participants.discover(grid)
    grid.get_node_ids = lambda: [100]
    participants.refresh(grid)
    assert participants.available == [0]
    assert participants.clients == [0, 1]


def test_silence_is_not_an_answer(monkeypatch):
    monkeypatch.setattr(participants_module, "_SHORTEST_DESCRIPTION_SECONDS", 0.1)
    grid = grid_of(says(), 2)
    grid.pull_messages = lambda identities: []
    with pytest.raises(MissingClients, match="did not say who they are"):
        meeting(2, 0.1).discover(grid)


def test_an_error_reply_of_an_unknown_node_is_no_participant():
    grid = grid_of(says(), 2)
    pull = grid.pull_messages
    participants = meeting(2, 1.0)
    participants.discover(grid)

    def gone(identities):
        replies = pull(identities)
        for reply in replies:
            reply.metadata.__dict__["_src_node_id"] = 1
        return [failed(reply) for reply in replies]

    def failed(reply):
        error = Message(Error(5, "Node Unavailable"), reply_to=reply)
        error.metadata.__dict__.update(reply.metadata.__dict__)
        return error

    grid._partitions[777] = 5
    grid.pull_messages = gone
    participants.refresh(grid)
    assert participants.clients == [0, 1]


@pytest.mark.parametrize("partitioned", [1, 2])
def test_a_federation_is_simulated_only_if_all_its_clients_are(partitioned):
    grid = grid_of(lambda index: says(partitions=2 if index < partitioned else 0)(index), 2)
    participants = meeting(2, 1.0)
    participants.discover(grid)
    assert participants.simulated == (partitioned == 2)
    assert (participants.remember() == {}) == participants.simulated
