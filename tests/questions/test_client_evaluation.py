"""The clients evaluate candidates: exactly what an evaluation of their images in one place says."""

import random

import numpy as np
import pytest
import torch
from flwr.app import MetricRecord

from client_app.app import app
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.data import DataSet, ImageData
from foundation.data.agreement import to_values
from foundation.models import cpu_state, load_state
from foundation.models.evaluation import Evaluator
from foundation.settings.configuration import RunConfiguration
from questions.ask import ask
from questions.evaluation import EvaluationRequest, Scores
from strategies import shared_model
from tests.meeting import meeting

CLIENTS = 4
SETTINGS = {
    "num-clients": CLIENTS,
    "dirichlet-alpha": 0.5,
    "train-samples": 400,
    "validation-share": 0.25,
    "strategy": "fedavg",
}
STEPS = [0.0, 0.25, 0.5, 1.0]


class Federation:
    """Some clients that have been met, and two models to ask them about."""

    def __init__(self, grid_type: type[LocalGrid] = LocalGrid, **keys: object) -> None:
        self.configuration = RunConfiguration.parse({**SETTINGS, **keys})
        self.grid = grid_type(app, CLIENTS, self.configuration.flat())
        self.description = DataSet("digits").describe()
        self.agreement = to_values(self.description)
        self.participants = meeting(CLIENTS, 5.0, agreement=self.agreement)
        self.participants.discover(self.grid)
        self.model = shared_model(self.configuration, self.description)
        base = cpu_state(self.model)
        target = {
            name: value + 0.02 * torch.ones_like(value) if value.is_floating_point() else value
            for name, value in base.items()
        }
        self.candidates = EvaluationRequest(base, target, STEPS)

    def evaluate(self, request=None):
        return ask(
            self.grid,
            request or self.candidates,
            self.participants,
            agreement=self.agreement,
            timeout=60.0,
        )

    def held_out(self, client: int) -> ImageData:
        return self.configuration.division.data(client, "held-out")


def total(answers):
    return Scores.sum(answers.parts)


@pytest.fixture(scope="module")
def federation():
    return Federation()


@pytest.fixture(scope="module")
def found(federation):
    return federation.evaluate()


def test_an_answer_that_does_not_fit_the_others_is_among_the_failures(federation):
    class Doubtful(EvaluationRequest):
        def outliers(self, answers):
            return {client: "too good" for client in answers if client == 2}

    one = federation.candidates
    answers = federation.evaluate(Doubtful(one.base, one.target, STEPS))
    assert sorted(answers.valid) == [0, 1, 3]
    assert answers.who_failed == "client 2: too good"


def test_agrees_exactly_with_an_evaluation_of_the_same_images(federation, found):
    assert sorted(found.valid) == list(range(CLIENTS))
    parts = [federation.held_out(client) for client in range(CLIENTS)]
    for client, part in enumerate(parts):
        offline = Evaluator(part, federation.description.normalization, torch.device("cpu"))
        for index, state in enumerate(federation.candidates):
            measured = offline(load_state(federation.model, state))
            scores = found.valid[client]
            assert scores.accuracy(index) == measured.accuracy
            # A client's model lies in memory in another order, which rounds otherwise.
            assert scores.loss[index] / len(part) == pytest.approx(measured.loss, rel=1e-5)
            assert scores.correct[index].tolist() == np.diag(measured.confusion).tolist()
            assert scores.total.tolist() == part.label_counts().tolist()
    together = ImageData(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].class_names,
    )
    whole = Evaluator(together, federation.description.normalization, torch.device("cpu"))
    for index, state in enumerate(federation.candidates):
        measured = whole(load_state(federation.model, state))
        assert total(found).accuracy(index) == measured.accuracy
        assert total(found).loss[index] == pytest.approx(measured.loss * len(together))
    assert total(found).images == len(together)


def test_candidates_differ_and_are_compared_image_by_image(federation, found):
    added = total(found)
    assert len({added.accuracy(index) for index in range(len(STEPS))}) > 1
    assert (added.correct - added.correct[:1] == added.gained - added.lost).all()
    assert not added.gained[0].any()


def test_totals_alone_where_the_classes_are_not_to_be_known(found):
    federation = Federation(**{"label-counts": "uniform"})
    assert all(len(federation.participants[client].held_out) == 1 for client in range(CLIENTS))
    alone = federation.evaluate()
    for client, scores in alone.valid.items():
        assert scores.total.shape == (1,)
        np.testing.assert_array_equal(scores.correct[:, 0], found.valid[client].correct.sum(axis=1))
        np.testing.assert_array_equal(scores.gained[:, 0], found.valid[client].gained.sum(axis=1))


class Shuffled(LocalGrid):
    """Hands over replies in any order, as a network does."""

    def pull_messages(self, message_ids):
        replies = list(super().pull_messages(message_ids))
        random.Random(7).shuffle(replies)
        return replies


def test_the_order_of_answers_does_not_matter(found):
    again = Federation(Shuffled).evaluate()
    assert list(again.valid) == list(found.valid)
    np.testing.assert_array_equal(total(again).loss, total(found).loss)
    np.testing.assert_array_equal(total(again).correct, total(found).correct)


class Liar(LocalGrid):
    """Client 1 answers as if it had ten times as many images, all of them right."""

    def pull_messages(self, message_ids):
        for reply in super().pull_messages(message_ids):
            if reply.metadata.src_node_id == 101 and "total" in reply.content.get("metrics", {}):
                record = dict(reply.content["metrics"])
                record["total"] = [10 * count for count in record["total"]]
                record["correct"] = record["total"] * len(STEPS)
                reply.content["metrics"] = MetricRecord(record)
            yield reply


def test_a_client_cannot_weigh_more_than_it_joined_with(found):
    lied = Federation(Liar).evaluate()
    assert list(lied.failures) == [1]
    assert list(lied.valid) == [0, 2, 3]
    assert total(lied).images == total(found).images - found.valid[1].images


def test_nobody_is_asked_where_nothing_is_held_out():
    nobody = Federation(**{"validation-share": 0.0}).evaluate()
    assert nobody.valid == {}
    assert nobody.failures == {}
    assert total(nobody) is None
    assert nobody.bytes_down == 0


def test_two_sites_of_one_name_are_told_apart(federation):
    from dataclasses import replace

    participants = meeting(3)
    names = ["North", "North", ""]
    participants._by_client = {
        client: replace(federation.participants[client], site_name=name)
        for client, name in enumerate(names)
    }
    assert participants.names() == {
        0: "North (client 0)",
        1: "North (client 1)",
        2: "client 2",
    }
