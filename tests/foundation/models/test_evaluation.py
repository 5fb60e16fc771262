"""Accuracy, loss and confusion, counted image by image."""

import math

import numpy as np
import pytest
import torch

import foundation.models.evaluation as module
from foundation.data import ImageData, Normalization
from foundation.models.evaluation import Evaluator

NORMALIZATION = Normalization((0.5,), (0.25,))


@pytest.fixture
def data():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (23, 1, 2, 2), dtype=np.uint8)
    images.flags.writeable = False  # as a memory-mapped data set is
    return ImageData(images, draw.integers(0, 3, 23), ("a", "b", "c"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3)
    )


@pytest.mark.parametrize("batch", [1024, 5, 1])
def test_equals_counting_by_hand(data, model, monkeypatch, batch):
    monkeypatch.setitem(module._PIXELS, "cpu", 4 * batch)
    found = Evaluator(data, NORMALIZATION, torch.device("cpu"))(model)
    model.eval()
    confusion = [[0] * 3 for _ in range(3)]
    loss = 0.0
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        pixels = (torch.tensor(image / 255.0, dtype=torch.float32) - 0.5) / 0.25
        logits = model(pixels[None])[0].tolist()
        confusion[label][logits.index(max(logits))] += 1
        loss += math.log(sum(math.exp(value) for value in logits)) - logits[label]
    assert found.confusion == confusion
    assert found.accuracy == sum(confusion[k][k] for k in range(3)) / 23
    assert found.loss == pytest.approx(loss / 23, rel=1e-5)
    assert sum(map(sum, found.confusion)) == 23


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_model_as_it_was(data, model, training):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Evaluator(data, NORMALIZATION, torch.device("cpu"))(model)
    assert model.training is training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_model_that_says_nan_is_measured_not_crashed_on(data, model):
    torch.nn.init.constant_(model[-1].bias, math.nan)
    found = Evaluator(data, NORMALIZATION, torch.device("cpu"))(model)
    assert math.isnan(found.loss)
    assert 0.0 <= found.accuracy <= 1.0
