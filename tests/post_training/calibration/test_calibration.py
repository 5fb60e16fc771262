"""Calibration of the head's bias on plain states: from predictions, from pseudo images, or not."""

import pytest
import torch
from torch import nn

from foundation.events.family import Calibrated
from foundation.models import build, load_state
from foundation.models.classifier import head_name
from foundation.settings.configuration import RunConfiguration
from post_training import ClassStatistics, Settings, methods
from post_training.method import NoAnswer

run = methods()["calibration"].run


def settings(**calibration):
    values = {f"calibration.{name.replace('_', '')}": value for name, value in calibration.items()}
    return Settings.of(
        RunConfiguration.parse(
            {"generation.images-per-client": 6, "generation.iterations": 2, **values}
        )
    )


@pytest.fixture
def images():
    torch.manual_seed(5)
    return torch.randn(60, 1, 8, 8)


def asking(trained, images, shares):
    """Have clients answer that hold those images, with labels in those shares; note requests."""
    requests = []

    def ask(request):
        requests.append(request)
        with torch.no_grad():
            sums = trained.model(request.state)(images).double().softmax(1).sum(0)
        return ClassStatistics(
            clients=(0, 1),
            images=len(images),
            label_counts=len(images) * shares,
            predictions=sums,
        )

    trained.ask = ask
    return requests


def changed_names(before, after):
    return [name for name, value in before.items() if not torch.equal(value, after[name])]


@pytest.mark.parametrize("exchanges", [1, 2])
def test_from_predictions_the_mean_prediction_nears_the_shares(make_trained, images, exchanges):
    shares = torch.tensor([0.7, 0.1, 0.2], dtype=torch.float64)
    trained = make_trained()
    before = trained.global_state
    requests = asking(trained, images, shares)
    run(trained, settings(exchanges=exchanges))
    assert changed_names(before, trained.global_state) == ["head.bias"]
    assert len(requests) == exchanges and trained.store == {}

    def distance(state):
        with torch.no_grad():
            means = trained.model(state)(images).softmax(1).mean(0)
        return float((means - shares).abs().sum())

    assert distance(trained.global_state) < 0.5 * distance(before)
    if exchanges == 2:
        assert distance(trained.global_state) < distance(requests[1].state)


def test_predictions_that_are_right_change_nothing(make_trained, images):
    trained = make_trained()
    with torch.no_grad():
        shares = trained.model(trained.global_state)(images).double().softmax(1).mean(0)
    asking(trained, images, shares)
    before = trained.global_state["head.bias"]
    run(trained, settings())
    torch.testing.assert_close(trained.global_state["head.bias"], before)


def test_from_pseudo_images_nothing_is_asked_and_labels_fit_better(make_trained, images):
    trained = make_trained()
    before = trained.global_state
    requests = asking(trained, images, torch.ones(3) / 3)
    run(trained, settings(from_="pseudo", penalty=0.01))
    assert requests == []
    assert changed_names(before, trained.global_state) == ["head.bias"]
    data = trained.store["images"]
    assert len(data) == 18

    def loss(state):
        logits = trained.model(state)(data.images)
        weights = 1 / data.labels.bincount().float()
        return nn.functional.cross_entropy(logits, data.labels, weights).item()

    assert loss(trained.global_state) < loss(before)
    (event,) = [e for e in trained.events if isinstance(e, Calibrated)]
    torch.testing.assert_close(
        trained.global_state["head.bias"] - before["head.bias"], torch.tensor(event.bias)
    )


def test_where_nobody_answers_pseudo_images_are_taken_or_the_method_says_so(make_trained):
    trained = make_trained()
    run(trained, settings())
    assert list(trained.store) == ["images"]
    with pytest.raises(NoAnswer, match="calibration\\.from=pseudo"):
        run(make_trained(), settings(from_="predictions"))


def test_clients_that_keep_their_label_counts_are_not_enough(make_trained, images):
    trained = make_trained()
    trained.ask = lambda request: ClassStatistics(
        clients=(0,), images=60, predictions=torch.ones(3).double()
    )
    run(trained, settings())
    assert list(trained.store) == ["images"]


def test_nothing_is_done_twice(make_trained):
    trained = make_trained()
    run(trained, settings())
    once = trained.global_state
    run(trained, settings())
    assert trained.global_state is once


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (build("resnet8", channels=1, image_size=(8, 8), classes=3), "head"),
        (build("resnet8", channels=1, image_size=(8, 8), classes=3, projection_dim=5), "head"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 3)), "3"),
        (nn.Linear(4, 3), ""),
    ],
    ids=["own", "MOON", "foreign", "linear"],
)
def test_the_head_is_the_last_linear_layer(model, name):
    assert head_name(model) == name


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False)), "Sequential has no bias"),
        (nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()), "no linear layer"),
    ],
)
def test_a_head_without_bias_is_refused_with_a_reason(model, message):
    with pytest.raises(ValueError, match=message):
        head_name(model)
    suits = methods()["calibration"].suits
    with pytest.raises(ValueError, match=message):
        suits(model, settings())


def test_logits_change_by_exactly_the_bias(make_trained, images):
    """For MOON's model too, whose projection head lies between encoder and head."""
    from foundation.models import cpu_state
    from foundation.models.classifier import add_to_bias

    model = build("resnet8", channels=1, image_size=(8, 8), classes=3, projection_dim=5).eval()
    before = model(images)
    bias = torch.tensor([0.5, -1.0, 2.0])
    load_state(model, add_to_bias(cpu_state(model), head_name(model), bias))
    torch.testing.assert_close(model(images), before + bias)
