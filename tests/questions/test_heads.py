"""Many heads, judged in one message: counted by hand, and refused where they cannot be."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, RecordDict
from torch import nn

from foundation.messages.content import CONFIG, Content, Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent
from foundation.models import Classifier, cpu_state
from foundation.models.evaluation import LabelledImages
from questions.heads import HeadsRequest, tell

IMAGES, CLASSES, WIDTH, HEADS = 40, 3, 4, 6


class Pixels(nn.Module):
    """An encoder that counts how often it is run."""

    runs = 0

    def forward(self, images):
        Pixels.runs += 1
        return images.flatten(1)


@pytest.fixture
def site():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, 2, 2), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (IMAGES,))
    model = Classifier(Pixels(), WIDTH, CLASSES)
    judging = LabelledImages(images, labels, lambda x: x.float() / 255, torch.device("cpu"))
    return SimpleNamespace(
        model=lambda: model,
        judging_images=lambda: judging,
        features=images.flatten(1).float() / 255,
        labels=labels,
    )


def request_of(site):
    torch.manual_seed(1)
    weight = torch.randn(HEADS, CLASSES, WIDTH).double()
    return HeadsRequest(cpu_state(site.model()), weight, torch.randn(HEADS, CLASSES).double())


def answered(site, request):
    content = request.content()
    message = RecordDict({**content.records(), CONFIG: ConfigRecord(dict(content.settings))})
    return tell(site, Received(message))


def checked(request, content, held_out=IMAGES):
    return request.checked(Participant(0, 100, 9, (held_out,)), Received(content.records()))


def test_scores_are_those_of_counting_and_the_encoder_runs_once(site):
    request = request_of(site)
    Pixels.runs = 0
    scores = checked(request, answered(site, request))
    assert Pixels.runs == 1
    logits = torch.einsum("nd,kcd->knc", site.features, request.weight.float())
    logits = logits + request.bias.float().unsqueeze(1)
    right = (logits.argmax(2) == site.labels).numpy()
    assert scores.images == IMAGES
    assert scores.correct[:, 0].tolist() == right.sum(1).tolist()
    assert scores.gained[:, 0].tolist() == (right & ~right[0]).sum(1).tolist()
    assert scores.lost[:, 0].tolist() == (~right & right[0]).sum(1).tolist()
    losses = [nn.functional.cross_entropy(one, site.labels, reduction="sum") for one in logits]
    np.testing.assert_allclose(scores.loss, torch.stack(losses), rtol=1e-5)
    both = request.pooled({0: scores, 3: scores})
    assert both.images == 2 * IMAGES and both.correct[:, 0].tolist() == (2 * right.sum(1)).tolist()
    assert request.pooled({}) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"total": [IMAGES - 1]}, "than the 40 that it joined with"),
        ({"gained": [0] * (HEADS - 1)}, "are not 6 numbers"),
        ({"gained": [IMAGES + 1] * HEADS}, "whole numbers from 0 to 40"),
        ({"correct": [3] * HEADS, "gained": [0] * HEADS, "lost": [1] * HEADS}, "do not add up"),
        ({"correct": [3] * HEADS, "gained": [5] * HEADS, "lost": [5] * HEADS}, "cannot give"),
        ({"loss": [-1.0] * HEADS}, "below 0"),
    ],
)
def test_what_no_images_can_give_is_refused(site, changed, message):
    request = request_of(site)
    numbers = {**answered(site, request).numbers, **changed}
    with pytest.raises(InvalidContent, match=message):
        checked(request, Content(numbers=numbers))
