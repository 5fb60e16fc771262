"""``post-training=head`` on a model whose features are its pixels."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from foundation.models import load_state
from foundation.settings.configuration import RunConfiguration
from post_training import Settings, methods
from post_training.closed_form_head import better_than_first
from post_training.method import NoAnswer
from post_training.trained import Inputs
from questions.class_statistics import ClassStatistics, StatisticsRequest
from questions.evaluation import Scores

method = methods()["head"]
FEATURES, CLASSES = 6, 4


class Double:
    """A trained federation of a linear model, whose clients answer of given images."""

    def __init__(self, told, held_out=None, classes=CLASSES):
        torch.manual_seed(1)
        self.shell = nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, classes))
        self.global_state = self.shell.state_dict()
        self.inputs, self.told, self.held_out = Inputs((1, 2, 3), classes), told, held_out
        self.steps, self.events, self.offered, self.asked = set(), [], [], []
        self.done, self.commit = self.steps.__contains__, self.steps.add
        self.timed = lambda name: nullcontext()
        self.record = lambda event: self.events.append(vars(event))

    def model(self, state):
        return load_state(self.shell, state).eval()

    def ask(self, request):
        self.asked.append(request)
        if isinstance(request, StatisticsRequest):
            return self.told
        if self.held_out is None:
            return None
        images, labels = self.held_out
        logits = torch.einsum("nd,kcd->knc", images.flatten(1).double(), request.weight)
        logits = logits + request.bias.unsqueeze(1)
        right = (logits.argmax(2) == labels).numpy()
        loss = [float(F.cross_entropy(one, labels, reduction="sum")) for one in logits]
        return Scores.counted(labels.numpy(), right, loss, columns=1)

    def offer(self, stage, state, *, needs_proof, whole):
        assert whole and not needs_proof
        self.offered.append(stage)
        self.global_state = state


def settings(**head):
    return Settings.of(RunConfiguration.parse({f"head.{k}": value for k, value in head.items()}))


def images_of(each=40, left_out=()):
    generator = torch.Generator().manual_seed(2)
    labels = torch.tensor([c for c in range(CLASSES) if c not in left_out]).repeat(each)
    centers = 2 * torch.randn(CLASSES, FEATURES, generator=generator)
    noise = torch.randn(len(labels), FEATURES, generator=generator)
    return (centers[labels] + noise).view(-1, 1, 2, 3), labels


def told_of(images, labels):
    features, member = images.flatten(1).double(), F.one_hot(labels, CLASSES).double()
    return ClassStatistics(
        clients=(0, 1),
        images=len(labels),
        label_counts=member.sum(0),
        feature_sums=member.T @ features,
        feature_counts=member.sum(0),
        moment=features.T @ features,
    )


def accuracy(trained, images, labels):
    with torch.no_grad():
        logits = trained.model(trained.global_state)(images)
    return float((logits.argmax(1) == labels).float().mean())


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("form", ["auto", "discriminant", "ridge", "nearest-mean"])
def test_two_questions_make_a_good_head(form, balanced):
    images, labels = images_of()
    trained = Double(told_of(images, labels), (images[:50], labels[:50]))
    method.run(trained, settings(of=form, balanced=balanced))
    assert accuracy(trained, images, labels) > 0.85
    assert trained.offered == ["head"] and len(trained.asked) == 2
    (event,) = trained.events
    assert event["form"] in ((form,) if form != "auto" else ("discriminant", "ridge"))
    method.run(trained, settings(of=form))  # what was done is not done again
    assert trained.offered == ["head"]


def test_a_head_is_as_sure_as_the_held_out_images_say():
    images, labels = images_of(each=100)
    trained = Double(told_of(images[:200], labels[:200]), (images[200:], labels[200:]))
    method.run(trained, settings())
    (event,) = trained.events
    with torch.no_grad():
        logits = trained.model(trained.global_state)(images[200:])

    def loss(factor):
        return float(F.cross_entropy(factor * logits, labels[200:]))

    # On the mean over 200 images; the least sure of all that are as likely.
    assert loss(1.0) <= min(loss(0.5), loss(2.0)) + 1.92 / 200
    assert loss(0.5) > min(loss(1.0), loss(2.0))
    assert event["held_out"] == 200


def test_nobody_judges_and_the_best_guess_of_the_sums_stays(caplog):
    images, labels = images_of()
    trained = Double(told_of(images, labels))
    method.run(trained, settings())
    assert trained.events[0]["form"] == "discriminant" and trained.events[0]["temperature"] == 1
    assert accuracy(trained, images, labels) > 0.85
    assert "nobody holds images out" in caplog.text


def test_a_class_that_nobody_holds_takes_no_image_from_the_others(caplog):
    images, labels = images_of(left_out=(1,))
    trained = Double(told_of(images, labels), (images[:50], labels[:50]))
    method.run(trained, settings())
    assert accuracy(trained, images, labels) > 0.8
    assert "nobody tells features of class 1" in caplog.text


def test_what_cannot_give_a_head_is_said():
    with pytest.raises(NoAnswer, match="no client tells the features"):
        method.run(Double(None), settings())
    images, labels = images_of(left_out=(1, 2, 3))
    with pytest.raises(NoAnswer, match=r"two classes or more.*class-statistics-minimum"):
        method.run(Double(told_of(images, labels)), settings())
    images, labels = images_of()
    with pytest.raises(NoAnswer, match="same features"):
        method.run(Double(told_of(torch.zeros_like(images), labels)), settings())


def test_what_clients_may_not_tell_or_is_too_large_is_refused_before_any_work():
    private = Settings.of(RunConfiguration.parse({"label-counts": "uniform"}))
    with pytest.raises(ValueError, match="label-counts=uploaded"):
        method.suits(nn.Linear(6, 3), private)
    with pytest.raises(ValueError, match=r"\d+ MB.*fewer features"):
        method.suits(nn.Linear(20_000, 3), settings())
    method.suits(nn.Linear(1280, 10), settings())


def scores_of(gained, lost, images):
    gained, lost = np.array([[0, *gained]]).T, np.array([[0, *lost]]).T
    right = images // 2 + gained - lost
    return Scores(np.array([images]), right, gained, lost, np.zeros(len(gained)))


def test_another_head_is_taken_only_where_it_is_better_for_sure():
    assert better_than_first(scores_of([3], [0], 25), 2) == 0
    assert better_than_first(scores_of([3, 9], [0, 0], 25), 3) == 2
    assert better_than_first(scores_of([90], [10], 400), 2) == 1
    assert better_than_first(scores_of([3, 9], [0, 0], 25), 2) == 0
    assert better_than_first(scores_of([], [], 25), 1) == 0
