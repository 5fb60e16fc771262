"""Refitting the head through ``calibration.of=head``, on a model whose features are its pixels."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from foundation.models import load_state
from foundation.models.class_statistics import class_means
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from generation import PseudoData
from post_training import ClassStatistics, Settings, methods
from post_training.method import NoAnswer
from post_training.trained import Inputs

method = methods()["calibration"]
FEATURES = 4


class Double:
    """A trained federation of a linear model; nobody trains and nothing is written."""

    def __init__(self, classes, told=None):
        torch.manual_seed(1)
        self.shell = nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, classes))
        nn.init.zeros_(self.shell[1].weight)
        self.global_state = self.shell.state_dict()
        self.inputs, self.store = Inputs((1, 2, 2), classes), {}
        self.steps, self.events, self.told = {"images"}, [], told
        self.done, self.commit = self.steps.__contains__, self.steps.add
        self.ask = lambda request: self.told
        self.timed = lambda name: nullcontext()
        self.record = self.events.append

    def model(self, state):
        return load_state(self.shell, state).eval()

    def offer(self, stage, state, *, whole):
        assert whole
        self.stage, self.global_state = stage, state


def settings(**calibration):
    keys = {f"calibration.{name.replace('_', '')}": value for name, value in calibration.items()}
    return Settings.of(RunConfiguration.parse({"calibration.of": "head", **keys}))


def images_of(classes, each=60, left_out=()):
    torch.manual_seed(2)
    labels = torch.tensor([c for c in range(classes) if c not in left_out]).repeat(each)
    centers = 3 * torch.randn(classes, FEATURES)
    mixing = torch.randn(FEATURES, FEATURES)
    features = centers[labels] + 0.5 * torch.randn(len(labels), FEATURES) @ mixing
    return features.view(-1, 1, 2, 2), labels


def told_of(images, labels, classes, clients=6):
    """Add up what clients say of the images that they hold in turn."""
    features = images.flatten(1).double()
    member = F.one_hot(labels, classes).double()
    sums, counts = member.T @ features, member.sum(0)
    products, pairs = torch.zeros(FEATURES, FEATURES).double(), 0
    for client in range(clients):
        rows = torch.arange(len(labels)) % clients == client
        own, held = member[rows].T @ features[rows], member[rows].sum(0)
        products += own.T @ class_means(own, held)
        pairs += int((held > 0).sum())
    return ClassStatistics(
        clients=tuple(range(clients)),
        images=len(labels),
        label_counts=counts,
        feature_sums=sums,
        feature_counts=counts,
        moment=features.T @ features,
        class_moments=torch.einsum("nc,nd,ne->cde", member, features, features),
        mean_products=products,
        means_added=pairs,
    )


def only(told, source):
    """Return what clients answer when the source is asked for."""
    return replace(
        told,
        moment=told.moment if source in ("moments", "auto") else None,
        class_moments=told.class_moments if source == "covariances" else None,
    )


def as_pseudo(images, labels, classes):
    return PseudoData(images, labels, torch.zeros(len(labels), classes), labels)


def accuracy(trained, images, labels):
    with torch.no_grad():
        predicted = trained.model(trained.global_state)(images).argmax(1)
    return float((predicted == labels).float().mean())


WAYS = [
    {"from_": "moments"},
    {"from_": "auto"},
    {"from_": "covariances"},
    {"from_": "means", "covariance": "spread"},
    {"from_": "means"},
    {"from_": "pseudo"},
]


@pytest.mark.parametrize("classes", [2, 5, 61])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way.values()))
def test_a_head_that_knows_nothing_becomes_a_good_one(classes, way):
    images, labels = images_of(classes)
    trained = Double(classes, only(told_of(images, labels, classes), way["from_"]))
    if "covariance" not in way and way["from_"] in ("means", "pseudo"):
        trained.store["images"] = as_pseudo(images, labels, classes)
    before = accuracy(trained, images, labels)
    method.run(trained, settings(**way))
    assert trained.stage == "calibrated" and "head" in trained.steps
    # The best that a discriminant can do, by the exact one.
    best = Double(classes, only(told_of(images, labels, classes), "moments"))
    method.run(best, settings(from_="moments"))
    reached = accuracy(best, images, labels)
    assert reached > before
    assert accuracy(trained, images, labels) > before + 0.5 * (reached - before)
    (event,) = trained.events
    assert event.of == "head" and event.classes == classes
    assert (event.temperature == 1) == (way["from_"] == "covariances")


def test_auto_takes_pseudo_images_where_nobody_answers():
    images, labels = images_of(3)
    trained = Double(3)
    trained.store["images"] = as_pseudo(images, labels, 3)
    method.run(trained, settings())
    assert accuracy(trained, images, labels) > 0.8
    with pytest.raises(NoAnswer, match=r"calibration\.from = moments.*pseudo"):
        method.run(Double(3), settings(from_="moments"))


@pytest.mark.parametrize("source", ["moments", "covariances"])
def test_a_class_that_nobody_holds_takes_no_image_from_the_others(source):
    images, labels = images_of(4, left_out=(1,))
    trained = Double(4, only(told_of(images, labels, 4), source))
    trained.global_state["1.bias"][1] = -50.0
    method.run(trained, settings(from_=source))
    assert accuracy(trained, images, labels) > 0.8
    assert trained.events[0].classes == 3


def test_too_few_images_to_know_a_spread_is_said():
    images, labels = images_of(3, each=1)
    with pytest.raises(NoAnswer, match="no spread within a class"):
        method.run(
            Double(3, only(told_of(images, labels, 3), "moments")), settings(from_="moments")
        )
    images, labels = images_of(2, left_out=(1,))
    with pytest.raises(NoAnswer, match="two classes"):
        method.run(
            Double(2, only(told_of(images, labels, 2), "moments")), settings(from_="moments")
        )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"of": "head", "from": "predictions"}, "from = 'predictions'.*of = 'head'.*moments"),
        ({"of": "bias", "from": "moments"}, "from = 'moments'.*of = 'bias'.*auto, pseudo, pred"),
    ],
)
def test_a_source_that_says_nothing_of_the_part_is_refused(keys, message):
    with pytest.raises(ConfigurationError, match=message):
        RunConfiguration.parse({f"calibration.{name}": value for name, value in keys.items()})


@pytest.mark.parametrize(
    ("source", "keys", "message"),
    [
        ("moments", {"label-counts": "uniform"}, "'moments'.*label-counts=uploaded"),
        ("means", {"label-counts": "noised"}, "'means'.*label-counts=uploaded"),
        ("covariances", {"generation.place": "client"}, "'covariances'.*place=server"),
        ("predictions", {"label-counts": "uniform"}, "'predictions'.*label counts"),
    ],
)
def test_what_clients_may_not_tell_is_refused_before_any_work(source, keys, message):
    part = "bias" if source == "predictions" else "head"
    configuration = RunConfiguration.parse(
        {"calibration.of": part, "calibration.from": source, **keys}
    )
    with pytest.raises(ValueError, match=message):
        method.suits(Double(3).shell, Settings.of(configuration))


def test_covariances_that_are_too_many_to_send_are_refused():
    with pytest.raises(ValueError, match=r"419 MB.*calibration.from=moments.*1.0 MB"):
        method.suits(nn.Linear(512, 200), settings(from_="covariances"))
    method.suits(nn.Linear(512, 10), settings(from_="covariances"))
