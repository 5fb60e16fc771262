"""Generation on the clients: the same images, no label counts sent, and nothing trusted."""

from __future__ import annotations

import pytest
import torch
from flwr.app import ArrayRecord, Error, Message, MetricRecord

from simulation.local_grid import LocalGrid
from strategies import TooFewReplies

KEYS = {
    "strategy": "fedavg",
    "num_server_rounds": 1,
    "generation__place": "client",
    "generation__batches": 2,
}


def test_clients_make_the_images_the_server_would_make(tiny_run):
    """Labels aside, which the clients draw from their own counts: with equal knowledge, equal."""
    here = tiny_run("here", **{**KEYS, "generation__place": "server"}, stages="train,generate")
    there = tiny_run("there", **KEYS, stages="train,generate")
    ours, theirs = here.pseudo_data(), there.pseudo_data()
    assert ours.keys() == theirs.keys() != set()
    for name, batch in ours.items():
        for part in ("labels", "sources"):
            assert batch[part] == theirs[name][part]
        for part in ("images", "logits"):
            torch.testing.assert_close(
                torch.tensor(theirs[name][part]), torch.tensor(batch[part]), rtol=1e-3, atol=1e-3
            )


def test_no_label_counts_leave_the_clients(tiny_run):
    run = tiny_run("run", **KEYS, stages="train,generate")
    assert run.events("clients")[0]["label_counts"] is None
    assert "label counts" not in run.summary()["traffic"]
    assert run.summary()["traffic"]["pseudo data"]["bytes_up"] > 0


def damaged(name, change):
    def damage(reply):
        state = dict(reply.content["arrays"].to_torch_state_dict())
        state[name] = change(state[name].clone())
        reply.content["arrays"] = ArrayRecord(state)
        return reply

    return damage


def without_objective(reply):
    reply.content["metrics"] = MetricRecord({"objective": float("nan")})
    return reply


def raises(reply):
    error = Message(Error(2, "RuntimeError: no GPU"), reply_to=reply)
    # A reply to a reply would be waited for until the round's time is over.
    error.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
    error.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id
    return error


DAMAGES = {
    "NaN": damaged("images", lambda v: v * torch.nan),
    "too-bright": damaged("images", lambda v: v + 1e6),
    "shape": damaged("images", lambda v: v[:, :, :4]),
    "fewer": damaged("labels", lambda v: v[:1]),
    "class": damaged("labels", lambda v: v + 10),
    "dtype": damaged("labels", lambda v: v.float()),
    "lying-teacher": damaged("logits", lambda v: -v),
    "objective": without_objective,
    "exception": raises,
}


@pytest.fixture
def tamper(monkeypatch):
    """Return a function that changes what given clients answer to train.generate."""
    reply_of = LocalGrid._reply

    def install(damage, clients):
        def changed(grid, message):
            reply = reply_of(grid, message)
            asked = message.metadata.message_type == "train.generate"
            return (
                damage(reply) if asked and message.metadata.dst_node_id - 100 in clients else reply
            )

        monkeypatch.setattr(LocalGrid, "_reply", changed)

    return install


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_client_with_impossible_images_is_dropped_by_name(tiny_run, tamper, app_log, damage):
    tamper(damage, {1})
    run = tiny_run("run", **KEYS, stages="train,generate,distil")
    for event in run.events("generation"):
        assert [failure["client"] for failure in event["failures"]] == [1]
    for batch in run.pseudo_data().values():
        assert set(batch["sources"]) == {0, 2}
    assert "common samples: client 1 dropped: " in app_log.text
    assert run.summary()["dropped"] == 2
    assert run.summary()["accuracy"]["distilled"] is not None


def test_without_any_valid_images_the_run_fails_and_says_why(tiny_run, tamper):
    tamper(DAMAGES["exception"], {0, 1, 2})
    with pytest.raises(TooFewReplies, match=r"no client generated .*no GPU"):
        tiny_run("run", **KEYS, stages="train,generate")
