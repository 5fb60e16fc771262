"""KeepLocalModels around Flower's strategies, and the example app that uses it."""

import importlib
import random
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedAvgM

from fedf2dg import AskClients, KeepLocalModels, post_train, tell_predictions
from fedf2dg.simulation import flower_engine
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.messages.exchange import as_a_task
from post_training import StatisticsRequest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flower_app"
CONFIG = {
    "num-server-rounds": 2,
    "local-epochs": 1,
    "learning-rate": 0.05,
    "iterations": 5,
    "ask": False,
}


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Return the example's modules, imported as Flower does, working in an empty folder."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.chdir(tmp_path)
    names = ("task", "client", "server")
    yield SimpleNamespace(**{n: importlib.import_module(f"digits_app.{n}") for n in names})
    for name in [name for name in sys.modules if name.startswith("digits_app")]:
        del sys.modules[name]


class Grid(LocalGrid):
    """Tells nodes how many there are, as Flower's simulation does; notes what they trained."""

    def __init__(self, app, nodes):
        super().__init__(app, nodes, CONFIG)
        self.trained = {}
        self.asked = []

    def _reply(self, message):
        reply = super()._reply(message)
        self.asked.append(message.metadata.message_type)
        if message.metadata.message_type == "train" and not reply.has_error():
            state = reply.content["arrays"].to_torch_state_dict()
            self.trained[message.metadata.dst_node_id] = {n: v.clone() for n, v in state.items()}
        return reply


def start(strategy, example, grid, rounds=2):
    random.seed(0)  # the order in which Flower asks
    torch.manual_seed(0)
    arrays = ArrayRecord(example.task.make_model().state_dict())
    return strategy.start(grid, arrays, num_rounds=rounds)


@pytest.mark.parametrize("make", [FedAvg, FedAvgM])
def test_the_last_rounds_models_are_kept_and_nothing_else_changes(example, tmp_path, make):
    plain = start(make(fraction_evaluate=0.0), example, Grid(example.client.app, 4))
    grid = Grid(example.client.app, 4)
    strategy = KeepLocalModels(make(fraction_evaluate=0.0), tmp_path / "kept")
    result = start(strategy, example, grid)
    for name, value in plain.arrays.to_torch_state_dict().items():
        assert torch.equal(result.arrays.to_torch_state_dict()[name], value), name
    kept = strategy.kept
    assert list(kept) == sorted(grid.trained) and len(kept) == 4
    for node, state in grid.trained.items():
        assert all(torch.equal(kept[node][name], value) for name, value in state.items())
    sizes = [len(example.task.load_data(client, 4)[1]) for client in range(4)]
    assert list(kept.num_examples.values()) == sizes
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["round-000002"]
    assert strategy.fraction_evaluate == 0.0  # the wrapped strategy's


def reply_of(node, *, scale=1.0, examples=10, metric="num-examples", error=False):
    as_a_task()
    message = Message(RecordDict(), dst_node_id=node, message_type="train")
    if error:
        reply = Message(Error(1, "gone"), reply_to=message)
    else:
        arrays = ArrayRecord({"w": scale * torch.ones(2)})
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({metric: examples})})
        reply = Message(content, reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = node
    return reply


def test_replies_that_are_of_no_use_are_not_kept(tmp_path, app_log):
    class Anything(FedAvg):
        def aggregate_train(self, server_round, replies):
            return ArrayRecord({"w": torch.ones(2)}), None

    strategy = KeepLocalModels(Anything(), tmp_path)
    replies = [
        reply_of(1),
        reply_of(2, error=True),
        reply_of(3, scale=float("nan")),
        reply_of(4, examples=0),
        reply_of(5, metric="samples"),
        reply_of(6, scale=2.0),
    ]
    strategy.aggregate_train(1, iter(replies))
    assert list(strategy.kept) == [1, 6]
    for node in (3, 4, 5):
        assert f"node {node}: its model is not kept" in app_log.text
    other = KeepLocalModels(Anything(), tmp_path, num_examples_key="samples")
    other.aggregate_train(2, replies)
    assert other.kept.num_examples == {5: 10}


def test_a_round_without_a_result_leaves_the_models_of_the_round_before(tmp_path):
    class Failing(FedAvg):
        def aggregate_train(self, server_round, replies):
            return (ArrayRecord({"w": torch.ones(2)}) if server_round == 1 else None), None

    strategy = KeepLocalModels(Failing(), tmp_path)
    strategy.aggregate_train(1, [reply_of(1)])
    strategy.aggregate_train(2, [reply_of(2)])
    assert list(strategy.kept) == [1]


def test_nothing_kept_and_a_strategy_with_its_own_loop_say_so(tmp_path):
    class OwnLoop(FedAvg):
        def start(self, *given, **named):
            raise NotImplementedError

    with pytest.raises(FileNotFoundError, match="finished a round"):
        list(KeepLocalModels(FedAvg(), tmp_path).kept)
    with pytest.raises(TypeError, match="OwnLoop has a round loop of its own"):
        KeepLocalModels(OwnLoop(), tmp_path)


def test_the_example_improves_its_model_in_process(example, tmp_path, capsys, monkeypatch):
    nodes = 5
    grid = Grid(example.client.app, nodes)
    main = example.server.main
    main(grid, SimpleNamespace(run_config={**CONFIG, "num-server-rounds": 3, "iterations": 30}))
    said = capsys.readouterr().out
    assert "federated: " in said and "post-trained: " in said
    state = torch.load(tmp_path / "model.pt")
    assert state.keys() == example.task.make_model().state_dict().keys()


def test_the_example_s_clients_are_asked(example, tmp_path) -> None:
    """What they tell adds up to what a model says of all their images together."""
    grid = Grid(example.client.app, 4)
    run_config = {**CONFIG, "num-server-rounds": 2, "ask": True}
    example.server.main(grid, SimpleNamespace(run_config=run_config))
    kept = example.task.make_model()
    kept.load_state_dict(torch.load(tmp_path / "model.pt"))
    images, labels = example.task.load_data(0, 1)  # everybody's
    assert grid.asked[-4:] == ["query.predictions"] * 4 != grid.asked[-8:-4]
    with torch.no_grad():
        sums = kept.eval()(images).softmax(dim=1).sum(dim=0)
    strategy = KeepLocalModels(FedAvg(), tmp_path / "kept-models")
    asked = AskClients(grid, strategy.kept, 10)(StatisticsRequest(kept.state_dict(), True))
    assert asked.images == len(labels) and len(asked.clients) == 4
    assert torch.allclose(asked.predictions, sums.double(), atol=1e-3)
    assert torch.equal(asked.label_counts, labels.bincount(minlength=10).double())


def test_clients_that_cannot_be_right_are_left_out_by_name(example, tmp_path, app_log) -> None:
    grid = Grid(example.client.app, 4)
    strategy = KeepLocalModels(FedAvg(fraction_evaluate=0.0), tmp_path / "kept")
    start(strategy, example, grid, rounds=1)
    kept, state = strategy.kept, example.task.make_model().state_dict()
    gone, wrong = sorted(kept)[:2]
    kept.num_examples[wrong] += 1
    kept.num_examples[-5] = kept.num_examples.pop(gone)
    told = AskClients(grid, kept, 10)(StatisticsRequest(state, predictions=True))
    assert len(told.clients) == 2
    assert f"client {wrong}: it answers for" in app_log.text and "when it trained" in app_log.text
    assert "client -5: its node is not connected" in app_log.text
    assert AskClients(grid, kept, 9)(StatisticsRequest(state, predictions=True)) is None
    assert AskClients(grid, kept, 10)(StatisticsRequest(state, means=True)) is None


X, Y = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "no training image"),
        ([{"image": X, "label": Y}], r"pair of tensors.* is a dict"),
        ([(X, Y, Y)], "pair of tensors"),
        ([("image", "label")], "pair of tensors"),
        ([(X, Y.float())], r"whole numbers from 0 to 3 .*they are torch.float32"),
        ([(X, Y.unsqueeze(1))], r"of shape \(4, 1\)"),
        ([(X, Y + 1)], "they go from 1 to 4"),
        ([(X, Y - 1)], "they go from -1 to 2"),
        ([(X[:, :, :1, :1], 0 * Y)], "two classes or more"),
    ],
)
def test_what_a_client_cannot_answer_from_is_said(batches, said) -> None:
    with pytest.raises(ValueError, match=said):
        tell_predictions(torch.nn.Flatten(), batches)


def test_a_wrong_number_of_classes_is_not_blamed_on_the_clients(example, tmp_path, app_log) -> None:
    grid = Grid(example.client.app, 3)
    strategy = KeepLocalModels(FedAvg(fraction_evaluate=0.0), tmp_path / "kept")
    result = start(strategy, example, grid, rounds=1)
    given = {"image_shape": (1, 8, 8), "settings": {"generation.iterations": 1}}
    model, kept = example.task.make_model(), strategy.kept
    with pytest.raises(ValueError, match="asked about 9 classes, and the model has 10"):
        post_train(model, result.arrays, kept, ask=AskClients(grid, kept, 9), **given)
    nobody = AskClients(LocalGrid(example.client.app, 0, CONFIG), kept, 10)
    post_train(model, result.arrays, kept, ask=nobody, **given)
    assert "no client has told any" in app_log.text
    assert "bias of the head, from pseudo images" in app_log.text
    post_train(model, result.arrays, kept, ask=nobody, method="auto", **given)
    assert "no client is asked" in app_log.text


def test_a_handler_that_answers_nothing_is_a_failed_client(app_log) -> None:
    from flwr.clientapp import ClientApp

    app = ClientApp()
    app.query("predictions")(lambda message, context: None)
    grid = LocalGrid(app, 1, {})
    (node,) = grid.get_node_ids()
    asked = AskClients(grid, SimpleNamespace(num_examples={node: 4}), 4)
    assert asked(StatisticsRequest({"w": X}, predictions=True)) is None
    assert "returned NoneType" in app_log.text


@pytest.mark.slow
def test_the_example_runs_under_flwr(tmp_path, monkeypatch):
    """As ``flwr run`` does it, on a SuperLink of its own, which ends with the test."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE.parents[1]))
    log = tmp_path / "run.log"
    flower_engine.run_through_flower(CONFIG, 5, StringIO(), log, app=EXAMPLE)
    said = log.read_text("utf-8")
    assert "federated: " in said and "post-trained: " in said
