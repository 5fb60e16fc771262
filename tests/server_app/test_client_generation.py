"""Generation on the clients: the same images, no label counts sent, and nothing trusted."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Error, Message, MetricRecord
from safetensors.torch import load_file, save_file

from fedf2dg.simulation import local_run
from fedf2dg.simulation.flower_engine import dead_actor
from fedf2dg.simulation.local_grid import LocalGrid
from strategies import TooFewReplies

KEYS = {
    "strategy": "fedavg",
    "num_server_rounds": 1,
    "generation__place": "client",
    "generation__batches": 2,
}


@pytest.fixture
def wire(monkeypatch):
    """Return the list of (message, reply) that every run adds to."""
    passed = []
    reply_of = LocalGrid._reply

    def noted(grid, message):
        # Read before the reply is: the client may answer with the message's own records.
        sent = contents(message)
        reply = reply_of(grid, message)
        passed.append((message.metadata.message_type, sent, contents(reply)))
        return reply

    monkeypatch.setattr(LocalGrid, "_reply", noted)
    return passed


def contents(message):
    """Return array name or metric name to its bytes, by record."""
    return {
        record: {
            name: math.prod(array.shape) * np.dtype(array.dtype).itemsize
            for name, array in arrays.items()
        }
        for record, arrays in message.content.array_records.items()
    } | {
        record: {name: 8 * np.size(value) for name, value in metrics.items()}
        for record, metrics in message.content.metric_records.items()
    }


def test_the_whole_run_equals_one_that_generates_on_the_server(tiny_run):
    """Labels included: the clients draw them from their own counts, the server from those told."""
    keys = {"strategy": "scaffold", "generation__batches": 2}
    here = tiny_run("here", **keys, generation__place="server")
    there = tiny_run("there", **keys, generation__place="client")
    assert there.pseudo_data() == here.pseudo_data() != {}
    for kind in ("round", "distillation", "evaluation"):
        assert there.events(kind) == here.events(kind) != [], kind
    for name, value in here.model().items():
        assert torch.equal(there.model()[name], value), name


def test_no_label_counts_leave_the_clients(tiny_run, wire):
    run = tiny_run("run", strategy="scaffold", generation__place="client", validation_share=0.25)
    assert run.events("clients")[0]["label_counts"] is None
    left = {kind: reply for kind, _, reply in wire}
    assert left.keys() == {
        "query.describe",
        "train",
        "query.pseudo_images",
        "query.evaluation",
    }
    assert left["query.describe"]["metrics"].keys() == {
        "num-examples",
        "partition-id",
        "num-partitions",
        "held-out",
    }
    assert left["train"].keys() == {"arrays", "metrics"}
    assert set("\n".join(left["train"]["arrays"]).split("\n")) == run.model().keys()
    assert left["train"]["metrics"].keys() == {
        "num-examples",
        "local-steps",
        "train-loss",
        "seconds",
    }
    assert left["query.pseudo_images"]["pseudo"].keys() == {"images", "labels", "logits"}
    assert left["query.pseudo_images"]["metrics"].keys() == {"objective"}


@pytest.mark.parametrize("place", ["server", "client"])
def test_the_summary_counts_every_byte_by_kind(tiny_run, wire, place):
    run = tiny_run("run", strategy="scaffold", generation__place=place)
    up = dict.fromkeys(("model", "pseudo images", "label counts", "evaluation"), 0)
    down, judged = dict(up), 0
    for kind, message, reply in wire:
        arrays = [sum(record.values()) for name, record in message.items() if name != "metrics"]
        down["model"] += sum(arrays)
        if kind == "query.describe":
            up["label counts"] += reply["metrics"].get("label-counts", 0)
        elif kind == "query.evaluation":
            up["evaluation"] += sum(reply["metrics"].values())
            judged += sum(arrays)
        else:
            what = "model" if kind == "train" else "pseudo images"
            up[what] += sum(sum(record.values()) for record in reply.values())
    counted = run.summary()["traffic"]
    for kind in up:
        assert counted.get(kind, {}).get("bytes_up", 0) == up[kind], kind
        assert counted.get(kind, {}).get("bytes_down", 0) == down[kind], kind
    assert (up["label counts"] > 0) == (place == "server")
    assert (up["pseudo images"] > 0) == (place == "client")
    events = run.events("round") + run.events("generation")
    assert sum(event["bytes_down"] for event in events) == down["model"] - judged
    assert judged > 0 and up["evaluation"] > 0
    assert sum(event["bytes_up"] for event in events) == up["model"] + up["pseudo images"]


def damaged(name, change):
    def damage(reply):
        state = dict(reply.content["pseudo"].to_torch_state_dict())
        state[name] = change(state[name].clone())
        reply.content["pseudo"] = ArrayRecord(state)
        return reply

    return damage


def without_objective(reply):
    reply.content["metrics"] = MetricRecord({"objective": float("nan")})
    return reply


def raises(reply, reason="RuntimeError: no GPU"):
    error = Message(Error(2, reason), reply_to=reply)
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
    """Return a function that changes what given clients answer to query.pseudo_images."""
    reply_of = LocalGrid._reply

    def install(damage, clients):
        def changed(grid, message):
            reply = reply_of(grid, message)
            asked = message.metadata.message_type == "query.pseudo_images"
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


@pytest.mark.parametrize("place", ["server", "client"])
@pytest.mark.parametrize("scale", [1e9, 1e30])
def test_one_local_model_that_cannot_be_inverted_does_not_end_the_run(
    tiny_run, app_log, place, scale
):
    """Its weights are numbers, so the round took them; one layer of them is absurd."""
    keys = {**KEYS, "generation__place": place}
    run = tiny_run("run", **keys, stages="train")
    (path,) = (run.directory / "checkpoints" / "local_models").glob("client-00001-*")
    state = load_file(path)
    save_file({**state, "head.weight": scale * state["head.weight"]}, path)
    run = tiny_run("run", **keys, stages="generate,distil,compete", resume_from=str(run.directory))
    *common, hard = run.events("generation")
    for event in common:
        assert [failure["client"] for failure in event["failures"]] == [1]
    assert hard["failures"] == []  # the clients have been trained anew
    for name, batch in run.pseudo_data().items():
        assert set(batch["sources"]) == ({0, 2} if name.startswith("common") else {0, 1, 2})
    assert "common samples: client 1 dropped: " in app_log.text
    assert run.summary()["dropped"] == 2
    assert all(torch.isfinite(value).all() for value in run.model().values())


def test_without_any_valid_images_the_run_fails_and_says_why(tiny_run, tamper):
    tamper(DAMAGES["exception"], {0, 1, 2})
    with pytest.raises(TooFewReplies, match=r"no client generated .*no GPU"):
        tiny_run("run", **KEYS, stages="train,generate")


def test_a_dead_process_of_a_simulation_ends_the_run_before_its_clients_are_left_out(
    tiny_run, tamper, monkeypatch
):
    stopping = partial(local_run.run, must_stop=dead_actor)  # as the engine with Ray has it
    monkeypatch.setattr(local_run, "run", stopping)
    reason = "ActorDiedError: …\nThe actor is dead because its worker process has died."
    tamper(lambda reply: raises(reply, reason), {1})
    with pytest.raises(TooFewReplies, match=r"process of a simulated client died.*resume-from"):
        tiny_run("run", **KEYS, stages="train,generate")
