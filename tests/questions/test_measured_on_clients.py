"""What clients measure of a model, through their handlers: pooled, checked, and not made up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import MetricRecord

from client_app.app import app
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.data import DataSet
from foundation.data.agreement import to_values
from foundation.messages.content import Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent
from foundation.models import cpu_state
from foundation.models.batch_norm import InputMoments, input_moments, pooled_statistics
from foundation.models.class_statistics import ClassSums, class_sums
from foundation.settings.configuration import RunConfiguration
from questions.ask import ask
from questions.batch_norm import BatchNormRequest, MeasuredInputs
from questions.class_statistics import ClientStatistics, StatisticsRequest
from strategies import shared_model
from tests.meeting import meeting

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
        self.agreement = to_values(self.description)
        self.participants = meeting(CLIENTS, 5.0, agreement=self.agreement)
        self.participants.discover(self.grid)
        self.model = shared_model(self.configuration, self.description)
        self.state = cpu_state(self.model)

    def ask(self, request):
        """Ask what the run's settings let be asked."""
        asked = request.for_run(self.configuration, self.description.classes)
        if asked is None:
            return None
        answers = ask(self.grid, asked, self.participants, agreement=self.agreement, timeout=60.0)
        assert answers.failures == {}
        # Tensors and numbers, which all clients have as many of.
        assert answers.bytes_up > 0 and answers.bytes_up % len(answers.valid) == 0
        assert answers.bytes_down == CLIENTS * sum(value.nbytes for value in self.state.values())
        return asked.pooled(answers.valid)

    def training(self, client):
        return self.configuration.division.data(client)

    def normalised(self, client):
        images = torch.tensor(self.training(client).images)
        return self.description.normalization.apply(images)


@pytest.fixture(scope="module")
def clients():
    return Clients()


def test_batch_norm_statistics_are_those_of_pooled_moments(clients):
    found = clients.ask(BatchNormRequest.of(clients.model, SHAPE))
    parts = [input_moments(clients.model, [clients.normalised(c)]) for c in range(CLIENTS)]
    for name, value in pooled_statistics(parts).items():
        torch.testing.assert_close(
            found[name].double(), value, rtol=1e-4, atol=1e-5, check_dtype=False
        )
    changed = {name for name, value in clients.state.items() if not torch.equal(value, found[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var"}


def test_a_model_without_batch_norm_has_nothing_to_ask_about():
    clients = Clients(model="cnn")
    assert BatchNormRequest.of(clients.model, SHAPE).layers == {}


def test_class_statistics_are_sums_over_all_clients_images(clients):
    asked = {"predictions": True, "means": True, "moment": True, "class_moments": True}
    found = clients.ask(StatisticsRequest(clients.state, **asked))
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


def test_class_means_stay_where_label_counts_do():
    clients = Clients(**{"label-counts": "uniform"})
    assert clients.ask(StatisticsRequest(clients.state, means=True)) is None
    found = clients.ask(StatisticsRequest(clients.state, predictions=True))
    assert found.label_counts is None
    assert float(found.predictions.sum()) == pytest.approx(found.images, rel=1e-5)


def test_the_same_question_has_the_same_noise():
    clients = Clients(**{"class-statistics-noise": 1.0})
    request = StatisticsRequest(clients.state, means=True)
    first, again = (clients.ask(request) for _ in range(2))
    assert torch.equal(first.feature_sums, again.feature_sums)
    exact = Clients().ask(request)
    assert not torch.allclose(first.feature_sums, exact.feature_sums, rtol=1e-2)


FOUR, NINE = (Participant(0, 100, images) for images in (4, 9))
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
    reply = Received(MeasuredInputs(images, moments).content().records())
    request = BatchNormRequest({}, {"a": (2, 2)})
    if words is None:
        assert request.checked(FOUR, reply).moments["a"].count == 8
        return
    with pytest.raises(InvalidContent, match=words):
        request.checked(FOUR, reply)


def honest() -> tuple[ClientStatistics, StatisticsRequest]:
    torch.manual_seed(0)
    features, labels = torch.randn(9, 3).double(), torch.tensor([0] * 5 + [1] * 4)
    sums = ClassSums(
        predictions=torch.tensor([4.0, 5.0]).double(),
        feature_sums=torch.stack([features[labels == c].sum(0) for c in (0, 1)]),
        feature_counts=torch.tensor([5, 4]),
        moment=features.T @ features,
        class_moments=torch.stack([part.T @ part for part in (features[:5], features[5:])]),
    )
    asked = {"predictions": True, "means": True, "moment": True, "class_moments": True}
    expected = {"classes": 2, "minimum": 4, "label_counts": "exact"}
    request = StatisticsRequest({"head.weight": torch.zeros(2, 3)}, **asked, **expected)
    return ClientStatistics(9, sums, [5, 4]), request


def test_honest_statistics_pass():
    sent, request = honest()
    found = request.checked(NINE, Received(sent.content().records()))
    assert torch.equal(found.sums.moment, sent.sums.moment)
    assert torch.equal(found.sums.class_moments, sent.sums.class_moments)
    assert found.label_counts == [5, 4]


@pytest.mark.parametrize(("scale", "left_out"), [(100.0, [2]), (1.5, []), (0.01, [])])
def test_a_client_whose_features_would_drown_the_others_is_left_out(scale, left_out):
    sent, request = honest()
    sums = sent.sums
    larger = replace(
        sums,
        feature_sums=scale * sums.feature_sums,
        moment=scale**2 * sums.moment,
        class_moments=scale**2 * sums.class_moments,
    )
    liar = ClientStatistics(9, larger, [5, 4])
    # Its sums fit each other, so that nothing is wrong with them alone.
    assert request.checked(NINE, Received(liar.content().records())).images == 9
    told = request.outliers({0: sent, 1: sent, 2: liar, 5: sent})
    assert list(told) == left_out
    assert all("3.2 times the size" in reason for reason in told.values())


def test_a_moment_travels_as_a_triangle_and_in_half_the_bytes_where_that_is_asked():
    sent, request = honest()
    both = [sent.content(single).states["statistics"]["moment"] for single in (False, True)]
    assert [tuple(array.shape) for array in both] == [(6,), (6,)]
    assert [array.dtype for array in both] == [torch.float64, torch.float32]
    found = replace(request, single=True).checked(NINE, Received(sent.content(True).records()))
    torch.testing.assert_close(found.sums.moment, sent.sums.moment, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.sums.moment, found.sums.moment.T)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("predictions", lambda t: -t, "add up"),
        ("predictions", lambda t: 2 * t, "add up"),
        # Its diagonal is honest, and no vectors have such products.
        ("moment", lambda t: t + torch.tensor([[0, 9.0, 0], [0] * 3, [0] * 3]), "too small"),
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
    sent, request = honest()
    sums = replace(sent.sums, **{part: change(getattr(sent.sums, part))})
    with pytest.raises(InvalidContent, match=words):
        request.checked(NINE, Received(replace(sent, sums=sums).content().records()))


@pytest.mark.parametrize(
    "record", [{}, {"images": 8}, {"images": 9}, {"images": 9, "label-counts": [9, 9]}]
)
def test_statistics_without_their_numbers_are_refused(record):
    sent, request = honest()
    content = sent.content().records()
    content["metrics"] = MetricRecord(record)
    with pytest.raises(InvalidContent):
        request.checked(NINE, Received(content))
