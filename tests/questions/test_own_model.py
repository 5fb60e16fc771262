"""A site's own model is the one of strategy=local, and of it nothing but counts is told."""

from functools import partial

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message
from sklearn.linear_model import Ridge

from client_app.app import app
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.data.agreement import to_values
from foundation.messages.gather import sort_replies
from foundation.models import StateLayout, cpu_state, load_state
from foundation.models.closed_form import FeatureSums, cross_validated
from foundation.models.evaluation import LabelledImages
from foundation.settings.configuration import RunConfiguration
from questions.ask import ask
from questions.own_model import OWN, Comparison, OwnModelRequest
from strategies import get, shared_model
from tests.meeting import meeting

CLIENTS = 3
SETTINGS = {
    "num-clients": CLIENTS,
    "dirichlet-alpha": 1.0,
    "train-samples": 150,
    "validation-share": 0.25,
    "local-epochs": 1,
    "learning-rate": 0.05,
    "num-server-rounds": 2,
    "model": "cnn",
}


class Federation:
    """Some clients that have been met, and the replies that they sent."""

    def __init__(self, clients: int = CLIENTS, **keys: object) -> None:
        values = {**SETTINGS, "num-clients": clients, **keys}
        self.configuration = RunConfiguration.parse(values)
        self.grid = Overheard(app, clients, self.configuration.flat())
        self.description = self.configuration.data_set.describe()
        self.agreement = to_values(self.description)
        self.participants = meeting(clients, 5.0, agreement=self.agreement)
        self.participants.discover(self.grid)
        self.model = shared_model(self.configuration, self.description)
        self.initial = cpu_state(self.model)

    def compare(self, joined, rounds: int) -> dict[int, Comparison]:
        self.grid.heard.clear()
        request = OwnModelRequest(self.initial, joined, rounds)
        answers = ask(self.grid, request, self.participants, agreement=self.agreement, timeout=60.0)
        assert not answers.failures
        return answers.valid

    def right(self, state, client: int) -> np.ndarray:
        """Return which held-out images of a client a model classifies correctly."""
        data = self.configuration.division.data(client, "held-out")
        images = LabelledImages(
            torch.tensor(data.images),
            torch.tensor(data.labels),
            self.description.normalization.apply,
            torch.device("cpu"),
        )
        return images.predictions(load_state(self.model, state)).correct.numpy()


class Overheard(LocalGrid):
    """Keeps what comes back."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.heard: list = []

    def pull_messages(self, message_ids):
        found = super().pull_messages(message_ids)
        self.heard += [reply.content for reply in found if reply.has_content()]
        return found


def test_it_is_the_model_that_the_strategy_local_trains(tiny_local):
    federation, local = tiny_local
    answers = federation.compare(local[0], 2)
    for client, own in local.items():
        mine, joined = federation.right(own, client), federation.right(local[0], client)
        told = answers[client].scores
        assert told.images == len(mine)
        assert told.correct[OWN].sum() == mine.sum()
        assert (answers[client].gained, answers[client].lost) == (
            (joined & ~mine).sum(),
            (mine & ~joined).sum(),
        )
    # Client 0 is held against its own model.
    assert (answers[0].gained, answers[0].lost) == (0, 0)
    assert any(answer.gained + answer.lost for answer in answers.values())


@pytest.fixture(scope="module")
def tiny_local(tmp_path_factory):
    """Return a federation, and the models that clients have after two rounds alone."""
    federation = Federation(strategy="local")
    strategy = get("local").server(
        federation.configuration,
        StateLayout.of(federation.model),
        tmp_path_factory.mktemp("local"),
        federation.participants,
    )
    for server_round in (1, 2):
        strategy.begin(server_round, federation.initial, federation.grid)
        replies = federation.grid.send_and_receive(
            Message(
                strategy.content(server_round, ConfigRecord(federation.agreement), client),
                node,
                "train",
            )
            for client, node in strategy.addresses.items()
        )
        check = partial(strategy.checked, server_round)
        strategy.finish(server_round, sort_replies(replies, strategy.addresses, check))
    return federation, {client: strategy.local_models.read(client) for client in range(CLIENTS)}


def test_nothing_but_counts_leaves_the_site(tiny_local):
    federation, local = tiny_local
    federation.compare(local[0], 1)
    replies = [content for content in federation.grid.heard if "metrics" in content]
    assert len(replies) == CLIENTS
    for content in replies:
        assert not content.array_records
        assert set(content["metrics"]) == {"total", "correct", "gained", "lost", "confusion"}
        for values in content["metrics"].values():
            assert all(isinstance(value, int) for value in values)


def test_totals_alone_where_classes_are_kept_back():
    federation = Federation(**{"label-counts": "uniform"})
    for answer in federation.compare(federation.initial, 1).values():
        assert answer.confusion is None
        assert answer.scores.total.shape == (1,)


def test_the_counts_and_the_confusion_matrices_are_of_the_same_answers(tiny_local):
    federation, local = tiny_local
    for client, answer in federation.compare(local[1], 2).items():
        own, joined = answer.confusion
        data = federation.configuration.division.data(client, "held-out")
        assert own.sum(axis=1).tolist() == data.label_counts().tolist()
        assert np.trace(own) == federation.right(local[client], client).sum()
        assert np.trace(joined) == federation.right(local[1], client).sum()


def test_without_rounds_a_site_answers_from_its_own_features_alone():
    # One class a site: there is one answer, and the federation's fresh head gives others.
    federation = Federation(10, **{"partition": "classes", "classes-per-client": 1})
    for client, answer in federation.compare(federation.initial, 0).items():
        assert answer.scores.correct[OWN].sum() == answer.scores.images, client


def test_without_rounds_the_head_is_that_of_ridge_regression():
    """scikit-learn's ridge regression on the same features, as strong, answers the same."""
    federation = Federation(1, **{"head.of": "ridge", "augmentation": "none"})
    (answer,) = federation.compare(federation.initial, 0).values()
    model = load_state(federation.model, federation.initial).eval()

    def features(split):
        data = federation.configuration.division.data(0, split)
        images = federation.description.normalization.apply(torch.tensor(data.images))
        with torch.no_grad():
            return model.embed(images).double(), torch.tensor(data.labels)

    seen, labels = features("train")
    member = torch.nn.functional.one_hot(labels, 10).double()
    sums = FeatureSums(seen.T @ seen, member.T @ seen, member.sum(0))
    ridge = Ridge(alpha=cross_validated(sums)).fit(seen, member)
    held_out, truth = features("held-out")
    right = (ridge.predict(held_out).argmax(axis=1) == truth.numpy()).sum()
    assert answer.scores.correct[OWN].sum() == right > len(truth) / 5
