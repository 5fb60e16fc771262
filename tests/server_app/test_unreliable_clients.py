"""A client that fails at every question but training is left out by name; all ways are the same."""

import torch
from flwr.app import Error, Message, RecordDict

from foundation.messages import gather

KEYS = {
    "num_server_rounds": 1,
    "validation_share": 0.3,
    "evaluation": "clients",
    "batch_norm": "measured",
    "post_training": "calibration",
}
ASKED = {"query.evaluation", "query.batch_norm", "query.class_statistics"}
VICTIM = 1


def nonsense(reply: Message) -> Message:
    reply.content = RecordDict()
    return reply


def raised(reply: Message) -> Message:
    return Message(Error(2, "RuntimeError: no memory"), reply_to=reply)


def gone(reply: Message) -> Message:
    error = Message(Error(5, "Node Unavailable"), reply_to=reply)
    # Flower reports a node that is gone under another id.
    error.metadata.__dict__["_src_node_id"] = 1
    return error


WAYS = {
    "nonsense": (nonsense, "lacks"),
    "an error": (raised, "no memory"),
    "gone": (gone, "Node Unavailable"),
    "late": (lambda reply: None, "no reply in time"),
}


def test_every_question_is_answered_without_a_client_that_fails(tiny_run, monkeypatch, app_log):
    exchange = gather.exchange
    way = dict.fromkeys(["damage"])
    damaged: set[str] = set()

    def unreliable(grid, messages, timeout):
        for reply in exchange(grid, messages, timeout):
            kind, source = reply.metadata.message_type, reply.metadata.src_node_id
            if source == 100 + VICTIM and kind in ASKED:
                damaged.add(kind)
                reply = way["damage"](reply)
            if reply is not None:
                yield reply

    monkeypatch.setattr(gather, "exchange", unreliable)
    results = []
    for name, (damage, reason) in WAYS.items():
        way["damage"] = damage
        app_log.clear()
        run = tiny_run(name, **KEYS)
        assert damaged == ASKED
        for kind in ("batch_norm", "judgement"):
            for event in run.events(kind):
                (failure,) = event["failures"]
                assert failure["client"] == VICTIM and reason in failure["reason"], name
        told = run.summary()["on_clients"]["calibrated"]["clients"]
        assert [client["client"] for client in told] == [0, 2]
        assert f"class statistics: client {VICTIM}" in app_log.text
        assert f"evaluation: client {VICTIM}" in app_log.text
        results.append(run)
    first, *others = results
    for run in others:
        assert run.summary() == first.summary()
        assert all(torch.equal(run.model()[key], value) for key, value in first.model().items())
