"""A client that answers nonsense is dropped with a warning that names it; the rest goes on."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

from strategies import TooFewReplies

VICTIM = 2


def arrays_of(reply):
    return dict(reply.content["arrays"].to_torch_state_dict())


def with_arrays(change):
    def damage(reply):
        state = arrays_of(reply)
        reply.content["arrays"] = ArrayRecord(change(state))
        return reply

    return damage


def with_metric(name, value):
    def damage(reply):
        metrics = dict(reply.content["metrics"])
        metrics[name] = value
        reply.content["metrics"] = MetricRecord(metrics)
        return reply

    return damage


def without(record):
    def damage(reply):
        del reply.content[record]
        return reply

    return damage


def without_metric(reply):
    metrics = dict(reply.content["metrics"])
    del metrics["local-steps"]
    reply.content["metrics"] = MetricRecord(metrics)
    return reply


def wrong_kind_of_record(reply):
    reply.content["arrays"] = MetricRecord({"a": 1})
    return reply


def raw(**change):
    """Replace the weight by an Array whose header and bytes may lie."""

    def damage(reply):
        honest = reply.content["arrays"]["weight"]
        fields = {
            "dtype": honest.dtype,
            "shape": honest.shape,
            "stype": honest.stype,
            "data": honest.data,
            **change,
        }
        reply.content["arrays"] = ArrayRecord({"weight": Array(**fields)})
        return reply

    return damage


def first(value):
    def change(state):
        weight = state["weight"].clone()
        weight[0] = value
        return {"weight": weight}

    return change


DAMAGES = {
    "NaN": with_arrays(first(torch.nan)),
    "infinity": with_arrays(first(-torch.inf)),
    "shape": with_arrays(lambda s: {"weight": s["weight"][:2]}),
    "transposed": with_arrays(lambda s: {"weight": s["weight"][None]}),
    "dtype": with_arrays(lambda s: {"weight": s["weight"].float()}),
    "integer": with_arrays(lambda s: {"weight": s["weight"].long()}),
    "name": with_arrays(lambda s: {"wait": s["weight"]}),
    "extra": with_arrays(lambda s: {**s, "more": s["weight"]}),
    "empty": with_arrays(lambda s: {}),
    "huge": with_arrays(lambda s: {"weight": torch.zeros(10**6, dtype=torch.float64)}),
    "lying-shape": raw(shape=(3,), data=b"\x93NUMPY" + b"0" * 50_000),
    "no-array": raw(data=b"not numpy at all"),
    "empty-bytes": raw(data=b""),
    "no-arrays": without("arrays"),
    "no-metrics": without("metrics"),
    "no-metric": without_metric,
    "record-kind": wrong_kind_of_record,
    "count-too-large": with_metric("num-examples", 10**6),
    "count-zero": with_metric("num-examples", 0),
    "count-negative": with_metric("num-examples", -30),
    "count-nan": with_metric("num-examples", float("nan")),
    "count-list": with_metric("num-examples", [30] * 1000),
    "steps-zero": with_metric("local-steps", 0),
    "steps-absurd": with_metric("local-steps", 10**9),
    "steps-beyond-its-data": with_metric("local-steps", 1000),
    # Possible numbers, and untrue: FedNova and SCAFFOLD would divide by them.
    "steps-one": with_metric("local-steps", 1),
    "steps-one-fewer": with_metric("local-steps", 6),
    "steps-a-fraction": with_metric("local-steps", 7.5),
    "count-a-fraction": with_metric("num-examples", 30.5),
    "loss-nan": with_metric("train-loss", float("nan")),
    "seconds-infinite": with_metric("seconds", float("inf")),
    "exception": lambda reply: Message(Error(2, "RuntimeError: no memory"), reply_to=reply),
    "empty-content": lambda reply: Message(RecordDict(), reply_to=reply),
    "lost": lambda reply: None,
}


@pytest.mark.parametrize("strategy", ["scaffold", "fednova"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_is_dropped_named_and_the_round_equals_one_without_it(
    laboratory, curved_clients, app_log, damage, strategy
):
    keys = {"strategy": strategy, "learning_rate": 0.05, "momentum": 0.9}
    clean = laboratory(curved_clients, **keys)
    clean.grid.touch = lambda client, reply: None if client == VICTIM else reply
    expected = clean.rounds(2)
    run = laboratory(curved_clients, **keys)
    run.grid.touch = lambda client, reply: damage(reply) if client == VICTIM else reply
    assert torch.equal(run.rounds(2), expected)
    outcome = run.strategy.outcome
    assert outcome.clients == (0, 1, 3)
    (failure,) = outcome.failures
    assert failure.client == VICTIM
    assert len(failure.reason) > 5
    assert len(failure.reason) <= 300
    assert f"round 2: client {VICTIM} dropped: " in app_log.text


def test_arrays_in_another_order_are_read_by_their_names(laboratory, make_client):
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
            self.b = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

        def embed(self, images):
            return images

        def classify(self, features):
            return features @ (self.a + self.b)

    clients = [make_client(torch.ones(k, 2).double(), torch.ones(k).double()) for k in (2, 3)]
    expected = laboratory(clients, strategy="fedavg", model=Two()).round()
    run = laboratory(clients, strategy="fedavg", model=Two())
    swap = with_arrays(lambda state: dict(reversed(state.items())))
    run.grid.touch = lambda client, reply: swap(reply) if client == 1 else reply
    state = run.round()
    assert list(state) == ["a", "b"]
    assert not torch.equal(state["a"], state["b"])
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_vanished_node_is_found_by_elimination(laboratory, curved_clients, app_log):
    """Flower reports a node that is gone under another node id, 1."""
    run = laboratory(curved_clients, strategy="fedavg")

    def gone(client, reply):
        if client != VICTIM:
            return reply
        error = Message(Error(5, "Node Unavailable"), reply_to=reply)
        error.metadata.__dict__["_src_node_id"] = 1
        return error

    run.grid.touch = gone
    run.round()
    assert "client 2 dropped: Node Unavailable" in app_log.text


def test_a_stranger_and_a_client_that_was_not_asked_change_nothing(laboratory, curved_clients):
    keys = {"strategy": "fedavg", "fraction_train": 0.5}
    expected = laboratory(curved_clients, **keys).rounds(1)
    run = laboratory(curved_clients, **keys)
    receive = run.grid.send_and_receive

    def with_strangers(messages, **options):
        replies = receive(messages, **options)
        if replies[0].metadata.message_type != "train":
            return replies
        asked = {reply.metadata.src_node_id for reply in replies}
        others = [next(n for n in run.grid.get_node_ids() if n not in asked), 424242]
        for node in others:
            forged = Message(replies[0].content, reply_to=replies[0])
            forged.metadata.__dict__["_src_node_id"] = node
            replies.append(forged)
        return replies

    run.grid.send_and_receive = with_strangers
    assert torch.equal(run.rounds(1), expected)
    assert run.strategy.outcome.failures == ()


@pytest.mark.parametrize(("required", "survivors"), [(0, 2), (3, 3)])
def test_below_min_successful_clients_the_run_fails_and_says_who_and_why(
    laboratory, curved_clients, required, survivors
):
    """0 means half of those asked."""
    run = laboratory(curved_clients, strategy="fedavg", min_successful_clients=required)
    failing = survivors

    def damage(client, reply):
        return DAMAGES["NaN"](reply) if client >= failing else reply

    run.grid.touch = damage
    run.round()
    failing = survivors - 1
    with pytest.raises(TooFewReplies) as error:
        run.round()
    text = str(error.value)
    assert f"round 2: {survivors - 1} of 4" in text
    assert "min-successful-clients" in text
    dropped = ", ".join(f"client {client}" for client in range(survivors - 1, 4))
    assert f"{dropped}: 'weight' holds NaN" in text


def test_a_failed_round_leaves_the_state_before_it_usable(laboratory, curved_clients):
    """The same rounds again, from what a checkpoint holds, give what an unbroken run gives."""
    whole = laboratory(curved_clients, strategy="scaffold", momentum=0.9, learning_rate=0.05)
    expected = whole.rounds(4)
    run = laboratory(curved_clients, strategy="scaffold", momentum=0.9, learning_rate=0.05)
    run.rounds(2)
    memory = {name: value.clone() for name, value in run.strategy.memory().items()}
    versions = run.strategy.versions()
    run.grid.touch = lambda client, reply: reply if client == 0 else None
    with pytest.raises(TooFewReplies):
        run.round()
    run.grid.touch = None
    run.server_round = 2
    run.strategy = run.new_strategy()
    run.strategy.declare(versions)
    run.strategy.restore(memory)
    assert torch.equal(run.rounds(2), expected)


def test_time_out_is_a_failure_by_name(laboratory, curved_clients, app_log):
    from foundation.messages.exchange import exchange

    run = laboratory(curved_clients, strategy="fedavg")
    run.grid.window = len(curved_clients)
    pull = run.grid.pull_messages
    lost = []

    def deaf(identities):
        # The last message's reply never comes.
        lost[:] = lost or list(run.grid._queue)[-1:]
        return pull([identity for identity in identities if identity not in lost])

    run.server_round = 1
    messages = run.messages()
    run.grid.pull_messages = deaf
    run.finish(exchange(run.grid, messages, timeout=0.3))
    assert run.strategy.outcome.clients == (0, 1, 2)
    assert "client 3 dropped: no reply in time" in app_log.text


def test_reasons_are_short_and_without_traceback_and_colours():
    from foundation.messages.gather import short_reason

    raw_reason = (
        "\x1b[36mray::run()\x1b[39m\nTraceback (most recent call last):\n  File 'x.py'\n"
        "Exception ClientAppException occurred. Message: boom of the client\n"
    )
    assert short_reason(raw_reason) == "boom of the client"
    flowers_own = "<class 'foundation.data.errors.DataError'>:<'site a: 'x' is no class'>"
    assert short_reason(flowers_own) == "site a: 'x' is no class"
    nested = f"Exception ClientAppException occurred. Message: {flowers_own}"
    assert short_reason(nested) == "site a: 'x' is no class"
    assert short_reason(None) == "no reason given"
    assert len(short_reason("x" * 10_000)) <= 300


@pytest.mark.parametrize(
    "hostile",
    [
        "boom\x1b]0;a new title\x07",
        "boom\x1b]8;;http://x\x1b\\",
        "\x1b[2J\x1b[1;1Hboom",
        "boom\x1bc",
        "boom\x1b",
        "\x1b[?25lboom",
    ],
)
def test_a_client_cannot_write_to_the_operators_terminal(hostile):
    from foundation.messages.gather import short_reason

    assert short_reason(hostile) == "boom"
    assert short_reason("bo\x08om \u202e") == "bo\ufffdom \ufffd"


def test_what_is_valid_passes_unchanged(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="fedavg")
    seen = {}
    run.grid.touch = lambda client, reply: seen.__setitem__(client, arrays_of(reply)) or reply
    state = run.round()
    total = sum(client.samples for client in curved_clients)
    expected = sum(c.samples / total * seen[i]["weight"] for i, c in enumerate(curved_clients))
    torch.testing.assert_close(state["weight"], expected, rtol=1e-14, atol=0)
    assert np.isfinite(run.strategy.outcome.train_loss)
    assert run.strategy.outcome.bytes_down == 4 * 3 * 8
    assert run.strategy.outcome.bytes_up == 4 * (3 + 4) * 8  # samples, steps, loss and seconds, too
