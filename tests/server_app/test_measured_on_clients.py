"""What clients measure of a model, through their handlers: pooled, checked, and not made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import MetricRecord, RecordDict

from client_app.app import app
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.data import DataSet
from foundation.data.agreement import to_values
from foundation.messages.participants import Participants
from foundation.messages.records import InvalidContent
from foundation.messages.shared_model import shared_model
from foundation.models import cpu_state
from foundation.models.batch_norm import InputMoments, input_moments, pooled_statistics
from foundation.models.class_statistics import ClassSums, class_sums
from foundation.settings.configuration import RunConfiguration
from post_training import StatisticsRequest
from questions.batch_norm import MeasuredInputs, checked_inputs
from questions.class_statistics import PARTS, ClientStatistics, Expected, checked_statistics
from server_app.batch_norm import measured_on_clients
from server_app.class_statistics import ask_for_statistics
from server_app.ledger import Ledger

CLIENTS = 3
SHAPE = (1, 8, 8)
SETTINGS = {
    "num-clients": CLIENTS,
    "dirichlet-alpha": 0.5,
    "train-samples": 300,
    "strategy": "fedavg",
    "class-statistics-minimum": 4,
}


class Clients:
    """As much of a federation as asking the clients needs."""

    def __init__(self, **keys: object) -> None:
        self.configuration = RunConfiguration.parse({**SETTINGS, **keys})
        self.grid = LocalGrid(app, CLIENTS, self.configuration.flat())
        self.description = DataSet("digits").describe()
        self.participants = Participants(CLIENTS, 5.0, to_values(self.description))
        self.participants.discover(self.grid)
        self.model = shared_model(self.configuration, self.description)
        self.state = cpu_state(self.model)
        self.ledger = Ledger()

    def agreement(self):
        return to_values(self.description)

    def with_state(self, state):
        return self.model

    def training(self, client):
        return self.configuration.division.data(client)

    def normalised(self, client):
        images = torch.tensor(self.training(client).images)
        return self.description.normalization.apply(images)


@pytest.fixture(scope="module")
def clients():
    return Clients()


def test_batch_norm_statistics_are_those_of_pooled_moments(clients):
    found = measured_on_clients(
        clients.grid, clients.participants, clients.model, SHAPE, clients.agreement(), 60.0
    )
    assert found.clients == (0, 1, 2)
    parts = [input_moments(clients.model, [clients.normalised(c)]) for c in range(CLIENTS)]
    for name, value in pooled_statistics(parts).items():
        torch.testing.assert_close(
            found.state[name].double(), value, rtol=1e-4, atol=1e-5, check_dtype=False
        )
    changed = {
        name for name, value in clients.state.items() if not torch.equal(value, found.state[name])
    }
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var"}


def test_a_model_without_batch_norm_asks_nobody():
    clients = Clients(model="cnn")
    found = measured_on_clients(
        clients.grid, clients.participants, clients.model, SHAPE, clients.agreement(), 60.0
    )
    assert found.clients == ()
    assert found.bytes_down == 0


def test_class_statistics_are_sums_over_all_clients_images(clients):
    asked = {"predictions": True, "means": True, "moment": True, "class_moments": True}
    found = ask_for_statistics(clients, StatisticsRequest(clients.state, **asked))
    counts = np.array([clients.training(c).label_counts() for c in range(CLIENTS)])
    assert found.images == counts.sum()
    assert found.label_counts.tolist() == counts.sum(axis=0).tolist()
    kept = np.where(counts >= 4, counts, 0)
    assert (kept < counts).any()
    assert found.feature_counts.tolist() == kept.sum(axis=0).tolist()
    each = [
        class_sums(
            clients.model,
            [(clients.normalised(c), torch.from_numpy(clients.training(c).labels))],
            torch.from_numpy(counts[c]),
            minimum=4,
            **asked,
        )
        for c in range(CLIENTS)
    ]
    products = sum(
        total.outer(total) / count
        for part in each
        for total, count in zip(part.feature_sums, part.feature_counts, strict=True)
        if count
    )
    torch.testing.assert_close(found.mean_products, products, rtol=1e-4, atol=1e-4)
    assert found.means_added == (kept > 0).sum()
    for name in ("predictions", "feature_sums", "moment", "class_moments"):
        together = sum(getattr(part, name) for part in each)
        torch.testing.assert_close(getattr(found, name), together, rtol=1e-4, atol=1e-4)
    assert clients.ledger.traffic["class statistics"].bytes_up > 0


def test_class_means_stay_where_label_counts_do():
    clients = Clients(**{"label-counts": "uniform"})
    assert ask_for_statistics(clients, StatisticsRequest(clients.state, means=True)) is None
    found = ask_for_statistics(clients, StatisticsRequest(clients.state, predictions=True))
    assert found.label_counts is None
    assert float(found.predictions.sum()) == pytest.approx(found.images, rel=1e-5)


def test_the_same_question_has_the_same_noise():
    clients = Clients(**{"class-statistics-noise": 1.0})
    request = StatisticsRequest(clients.state, means=True)
    first, again = (ask_for_statistics(clients, request) for _ in range(2))
    assert torch.equal(first.feature_sums, again.feature_sums)
    exact = ask_for_statistics(Clients(), request)
    assert not torch.allclose(first.feature_sums, exact.feature_sums, rtol=1e-2)


MOMENTS = {
    "a": InputMoments(8, torch.tensor([2.0, -4.0]).double(), torch.tensor([5.0, 9.0]).double())
}


@pytest.mark.parametrize(
    ("moments", "images", "words"),
    [
        (MOMENTS, 4, None),
        (MOMENTS, 3, "instead of its sample"),
        ({"a": InputMoments(7, MOMENTS["a"].total, MOMENTS["a"].squares)}, 4, "not those of"),
        ({"a": InputMoments(4, MOMENTS["a"].total, MOMENTS["a"].squares)}, 4, "not those of"),
        ({"a": InputMoments(800, MOMENTS["a"].total, MOMENTS["a"].squares)}, 4, "whole numbers"),
        ({"a": InputMoments(8, MOMENTS["a"].total, 1e40 * MOMENTS["a"].squares)}, 4, "float32"),
        ({"a": InputMoments(8, MOMENTS["a"].total, -MOMENTS["a"].squares)}, 4, "too small"),
        ({"a": InputMoments(8, MOMENTS["a"].total * 9, MOMENTS["a"].squares)}, 4, "too small"),
        ({"b": MOMENTS["a"]}, 4, "names"),
        ({"a": InputMoments(8, MOMENTS["a"].total / 0, MOMENTS["a"].squares)}, 4, "NaN or inf"),
    ],
)
def test_impossible_moments_are_refused(moments, images, words):
    content = MeasuredInputs(images, moments).content()
    if words is None:
        assert checked_inputs(content, {"a": (2, 2)}, 4).moments["a"].count == 8
        return
    with pytest.raises(InvalidContent, match=words):
        checked_inputs(content, {"a": (2, 2)}, 4)


def honest() -> tuple[ClientStatistics, Expected]:
    torch.manual_seed(0)
    features, labels = torch.randn(9, 3).double(), torch.tensor([0] * 5 + [1] * 4)
    sums = ClassSums(
        predictions=torch.tensor([4.0, 5.0]).double(),
        feature_sums=torch.stack([features[labels == c].sum(0) for c in (0, 1)]),
        feature_counts=torch.tensor([5, 4]),
        moment=features.T @ features,
        class_moments=torch.stack([part.T @ part for part in (features[:5], features[5:])]),
    )
    expected = Expected(PARTS, 2, 3, 4, False, "exact")
    return ClientStatistics(9, sums, [5, 4]), expected


def test_honest_statistics_pass():
    sent, expected = honest()
    found = checked_statistics(sent.content(), expected, 9)
    assert torch.equal(found.sums.moment, sent.sums.moment)
    assert torch.equal(found.sums.class_moments, sent.sums.class_moments)
    assert found.label_counts == [5, 4]


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("predictions", lambda t: -t, "add up"),
        ("predictions", lambda t: 2 * t, "add up"),
        ("moment", lambda t: t + torch.tensor([[0, 9.0, 0], [0] * 3, [0] * 3]), "symmetric"),
        ("moment", lambda t: 0 * t, "too small"),
        ("feature_sums", lambda t: 100 * t, "too small"),
        ("class_moments", lambda t: 0 * t, "too small"),
        ("class_moments", lambda t: t.triu(), "symmetric"),
        ("feature_counts", lambda t: torch.tensor([5, 3]), "fewer than"),
        ("feature_counts", lambda t: torch.tensor([4, 4]), "other images"),
        ("feature_counts", lambda t: torch.tensor([5, 0]), "leaves out"),
    ],
)
def test_impossible_statistics_are_refused(part, change, words):
    sent, expected = honest()
    sums = replace(sent.sums, **{part: change(getattr(sent.sums, part))})
    with pytest.raises(InvalidContent, match=words):
        checked_statistics(replace(sent, sums=sums).content(), expected, 9)


@pytest.mark.parametrize(
    "record", [{}, {"images": [8]}, {"images": [9]}, {"images": [9], "label-counts": [9, 9]}]
)
def test_statistics_without_their_numbers_are_refused(record):
    sent, expected = honest()
    content = RecordDict(dict(sent.content()))
    content["class-statistics"] = MetricRecord(record)
    with pytest.raises(InvalidContent):
        checked_statistics(content, expected, 9)
