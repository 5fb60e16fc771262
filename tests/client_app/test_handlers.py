"""The client's handlers, asked with real messages through the in-process grid."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from client_app.app import app
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.data import DataSet, Division
from foundation.data.agreement import to_values
from foundation.messages.records import from_record, names_in
from foundation.models import cpu_state
from foundation.settings.configuration import RunConfiguration
from questions.description import code_fingerprint
from strategies import shared_model

CLIENTS = 3


@pytest.fixture
def settings():
    return {
        "strategy": "fedavg",
        "num-clients": CLIENTS,
        "dirichlet-alpha": 1.0,
        "train-samples": 90,
        "local-epochs": 1,
        "momentum": 0.9,
    }


@pytest.fixture
def ask(settings):
    """Return a function that sends one message to one client and returns its reply."""

    def send(kind, client=0, records=None, node=None, **keys):
        configuration = RunConfiguration.parse({**settings, **keys})
        grid = LocalGrid(app, CLIENTS, configuration.flat())
        if node is not None:
            from flwr.app import Context

            grid._contexts[100 + client] = Context(
                1, 100 + client, node, RecordDict(), configuration.flat()
            )
        content = RecordDict({"config": ConfigRecord({"server-round": 1, "client": client})})
        content.update(records or {})
        (reply,) = grid.send_and_receive([Message(content, 100 + client, kind)])
        return reply

    return send


def reason(reply):
    assert reply.has_error()
    return reply.error.reason


@pytest.fixture
def initial_arrays(settings):
    model = shared_model(RunConfiguration.parse(settings), DataSet("digits").describe())
    return ArrayRecord(cpu_state(model))


def own_data(client):
    return Division(
        DataSet("digits"),
        clients=CLIENTS,
        seed=0,
        dirichlet_alpha=1.0,
        train_samples=90,
        validation_share=0.1,
    ).data(client)


def test_describe_says_who_and_how_much(ask):
    for client in range(CLIENTS):
        metrics = ask("query.describe", client).content["metrics"]
        assert metrics["partition-id"] == client
        assert metrics["num-partitions"] == CLIENTS
        assert metrics["num-examples"] == len(own_data(client))


def test_describe_reveals_no_labels(ask):
    reply = ask("query.describe", **{"label-counts": "uniform"})
    assert len(reply.content["metrics"]["held-out"]) == 1
    assert set(reply.content) == {"metrics", "config"}
    assert set(reply.content["metrics"]) == {
        "num-examples",
        "partition-id",
        "num-partitions",
        "held-out",
    }
    assert dict(reply.content["config"]) == {"site-name": ""}


def test_right_fingerprint_is_accepted_and_a_wrong_one_refused(ask):
    right = {"config": ConfigRecord({"fingerprint": code_fingerprint({})})}
    assert not ask("query.describe", records=right).has_error()
    wrong = {"config": ConfigRecord({"fingerprint": "0" * 16})}
    assert "other code than the server" in reason(ask("query.describe", records=wrong))


def test_fingerprint_follows_the_sources(tmp_path, monkeypatch):
    import questions.description as module

    (tmp_path / "strategies").mkdir()
    source = tmp_path / "strategies" / "mine.py"
    place = tmp_path / "questions" / "description.py"
    monkeypatch.setattr(module, "__file__", str(place))
    found = []
    for text in ("a = 1\n", "a = 1\r\n", "a = 2\n"):
        source.write_bytes(text.encode())
        module._digest_of_shared.cache_clear()
        found.append(module.code_fingerprint({}))
    module._digest_of_shared.cache_clear()
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("kind", ["query.describe", "query.label_counts", "train"])
def test_a_node_without_data_refuses_and_says_how_to_start_it(ask, kind):
    assert "--node-config" in reason(ask(kind, node={"num-partitions": 3}))


def test_label_counts_are_the_clients_own(ask):
    for client in range(CLIENTS):
        counts = ask("query.label_counts", client).content["metrics"]["label-counts"]
        assert counts == np.bincount(own_data(client).labels, minlength=10).tolist()


def test_label_counts_are_refused_where_the_run_does_not_send_them(ask):
    reply = ask("query.label_counts", **{"label-counts": "uniform"})
    assert "not sent" in reason(reply)


def test_pixels_are_added_up_only_where_the_run_normalises_by_them(ask):
    assert "not added up" in reason(ask("query.pixel_sums"))
    told = ask("query.pixel_sums", normalization="measured").content["metrics"]
    images = own_data(0).images.astype(int)
    assert told["pixel-sums"] == [images.sum()] and told["pixel-squares"] == [(images**2).sum()]


@pytest.mark.parametrize("kind", ["evaluation", "batch_norm", "class_statistics", "pseudo_images"])
def test_a_question_without_a_model_is_an_error_and_no_guess(ask, kind):
    assert ask(f"query.{kind}").has_error()


def test_train_returns_a_trained_model_and_what_it_took(ask, initial_arrays):
    reply = ask("train", 1, {"arrays": initial_arrays}, **{"batch-size": 8, "local-epochs": 3})
    metrics, samples = reply.content["metrics"], len(own_data(1))
    assert set(metrics) == {"num-examples", "local-steps", "train-loss", "seconds"}
    assert metrics["num-examples"] == samples
    full, rest = divmod(samples, 8)
    assert metrics["local-steps"] == 3 * (full + (rest > 1))  # BatchNorm: no batch of one image
    before = initial_arrays.to_torch_state_dict()
    assert sorted(names_in(reply.content["arrays"])) == sorted(before)
    after = from_record(reply.content["arrays"], before)
    assert not torch.equal(before["head.weight"], after["head.weight"])
    steps = after["encoder.1.num_batches_tracked"] - before["encoder.1.num_batches_tracked"]
    assert int(steps) == metrics["local-steps"]


def test_same_seed_round_and_client_give_the_same_model_whatever_ran_before(ask, initial_arrays):
    def trained(client):
        reply = ask("train", client, {"arrays": initial_arrays})
        return from_record(reply.content["arrays"], initial_arrays.to_torch_state_dict())

    first = trained(0)
    torch.manual_seed(99)
    trained(2)
    trained(1)
    torch.rand(5)
    again = trained(0)
    for name, value in first.items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize("difference", [{"server-round": 2}, {"client": 7}])
def test_another_round_or_client_shuffles_otherwise(ask, initial_arrays, difference):
    results = []
    for change in ({}, difference):
        config = ConfigRecord({"server-round": 1, "client": 0, **change})
        reply = ask("train", 0, {"arrays": initial_arrays, "config": config})
        like = initial_arrays.to_torch_state_dict()
        results.append(from_record(reply.content["arrays"], like)["head.weight"])
    assert not torch.equal(*results)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({}, "lacks 'arrays'"),
        ({"arrays": ArrayRecord({"w": torch.zeros(1)})}, "names are not those expected"),
        ({"config": ConfigRecord({"server-round": -1, "client": 0})}, "server-round = -1"),
        ({"config": ConfigRecord({"server-round": 1, "client": -1})}, "client = -1"),
        ({"config": ConfigRecord({"client": 0})}, "server-round = None"),
    ],
)
def test_an_impossible_message_is_answered_with_the_reason(ask, initial_arrays, records, expected):
    complete = (
        records
        if "arrays" in records or not records
        else {
            "arrays": initial_arrays,
            **records,
        }
    )
    assert expected in reason(ask("train", 0, complete))


def test_the_servers_description_of_the_data_must_make_sense(ask):
    values = {**to_values(DataSet("digits").describe()), "data-std": [0.0]}
    reply = ask("query.describe", records={"config": ConfigRecord(values)})
    assert "impossible values" in reason(reply)


def test_unknown_questions_get_an_error_and_not_an_answer(ask):
    assert ask("query.secrets").has_error()


def test_scaffold_without_its_correction_is_an_error_not_plain_training(ask, initial_arrays):
    assert ask("train", 0, {"arrays": initial_arrays}, strategy="scaffold").has_error()


@pytest.mark.parametrize("model", ["cnn", "resnet8-gn", "resnet8"])
def test_a_client_with_one_sample_trains_where_the_model_can(ask, settings, model, monkeypatch):
    """BatchNorm cannot train on a single image: the client says so instead of sending NaN."""
    one = own_data(0).subset(np.array([0]))
    monkeypatch.setattr(Division, "data", lambda division, client, split="train": one)
    keys = {"model": model, "seed": 4}  # settings of its own: data is kept by settings
    start = shared_model(RunConfiguration.parse({**settings, **keys}), DataSet("digits").describe())
    reply = ask("train", 0, {"arrays": ArrayRecord(cpu_state(start))}, **keys)
    if model == "resnet8":
        assert "single image" in reason(reply)
    else:
        assert reply.content["metrics"]["num-examples"] == 1
        trained = reply.content["arrays"].to_torch_state_dict()
        assert all(torch.isfinite(v).all() for v in trained.values())


def test_a_plain_servers_model_is_evaluated_and_weighed_by_the_held_out_images(ask, initial_arrays):
    plain = {"any-name": initial_arrays}
    reply = ask("evaluate", 1, plain, **{"validation-share": 0.3}).content["metrics"]
    held_out = Division(
        DataSet("digits"),
        clients=CLIENTS,
        seed=0,
        dirichlet_alpha=1.0,
        train_samples=90,
        validation_share=0.3,
    ).data(1, "held-out")
    assert reply["num-examples"] == len(held_out) > 0
    assert 0 <= reply["accuracy"] <= 1
    assert reply["loss"] > 0
    assert "validation-share" in reason(ask("evaluate", 1, plain, **{"validation-share": 0.0}))
