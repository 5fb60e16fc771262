"""Which models teach, with what taken out, from the label counts that are known."""

import pytest
import torch
from torch import nn

from distillation import teachers
from foundation.models import build, cpu_state
from foundation.settings.configuration import RunConfiguration
from generation import PseudoData
from post_training import Settings, methods
from post_training.fedf2dg import soft_labels
from post_training.library import TrainedModels
from post_training.trained import Inputs

CLIENTS = (2, 5, 7)
SIDE = 16
COUNTS = {2: [60, 3, 1], 5: [1, 40, 40], 7: [2, 2, 90]}


@pytest.fixture
def models() -> dict[int, nn.Module]:
    return {
        client: build("cnn", classes=3, channels=1, image_size=SIDE, seed=client).eval()
        for client in (*CLIENTS, 100)
    }


@pytest.fixture
def data(models) -> PseudoData:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(9, 1, SIDE, SIDE, generator=draw)
    sources = torch.tensor(CLIENTS).repeat(3)
    with torch.no_grad():
        logits = torch.stack(
            [
                models[client](image[None])[0]
                for client, image in zip(sources.tolist(), images, strict=True)
            ]
        )
    return PseudoData(images, torch.arange(9) % 3, sources, logits)


def trained(models, counts=None) -> TrainedModels:
    return TrainedModels(
        models[100],
        cpu_state(models[100]),
        {client: cpu_state(models[client]) for client in CLIENTS},
        dict.fromkeys(CLIENTS, 30),
        Inputs((1, SIDE, SIDE), 3),
        counts=counts,
    )


@torch.no_grad()
def stacked(models, data) -> torch.Tensor:
    return torch.stack([models[client](data.images) for client in CLIENTS])


def test_own_and_uniform(models, data):
    assert torch.equal(soft_labels(trained(models), data, "own"), data.logits)
    mean = soft_labels(trained(models), data, "uniform")
    assert torch.allclose(mean, stacked(models, data).mean(0), atol=1e-6)


def test_auto_corrects_where_the_label_counts_are_known(models, data):
    known = trained(models, COUNTS)
    assert torch.equal(soft_labels(trained(models), data, "auto"), data.logits)
    corrected = soft_labels(known, data, "auto")
    assert torch.equal(corrected, soft_labels(known, data, "prior-corrected"))
    strength = known.events[0].prior_strength
    expected = teachers.prior_corrected(
        stacked(models, data), torch.tensor(list(COUNTS.values())), strength
    )
    assert torch.allclose(corrected, expected, atol=1e-5)


def test_one_client_without_counts_is_enough_not_to_correct(models, data):
    partly = trained(models, {client: COUNTS[client] for client in CLIENTS[:2]})
    assert torch.equal(soft_labels(partly, data, "auto"), data.logits)
    with pytest.raises(ValueError, match="needs every client's label counts"):
        soft_labels(partly, data, "masked")


def test_masked_and_class_weighted_take_the_images_source_and_label(models, data):
    known, counts = trained(models, COUNTS), torch.tensor(list(COUNTS.values()))
    weighted = soft_labels(known, data, "class-weighted")
    assert torch.allclose(
        weighted, teachers.class_weighted(stacked(models, data), counts, data.labels), atol=1e-5
    )
    masked = soft_labels(known, data, "masked")
    with torch.no_grad():
        everyone = models[100](data.images)
    rows = torch.arange(9) % 3
    expected = teachers.masked(data.logits, counts, rows, everyone)
    assert torch.allclose(masked, expected, atol=1e-5)


def test_no_images_need_no_teacher(models, data):
    nothing = PseudoData(data.images[:0], data.labels[:0], data.sources[:0], data.logits[:0])
    assert len(soft_labels(trained(models, COUNTS), nothing, "auto")) == 0


def test_auto_leaves_tiny_images_to_the_models_they_came_from(models, data):
    tiny = PseudoData(data.images[..., :8, :8], data.labels, data.sources, data.logits)
    assert torch.equal(soft_labels(trained(models, COUNTS), tiny, "auto"), data.logits)


def test_models_of_a_balanced_training_are_not_corrected_again(models, data):
    known = trained(models, COUNTS)
    twice = soft_labels(known, data, "prior-corrected", prior_left=0.0)
    assert torch.equal(twice, soft_labels(known, data, "uniform"))
    assert known.events[0].prior_strength == 0.0


@pytest.mark.parametrize(("layers", "moved"), [("auto", False), ("all", True)])
def test_fedf2dg_leaves_the_features_of_photographs_unless_told(models, layers, moved):
    known = trained(models, COUNTS)
    before = known.global_state
    keys = {
        "generation.images-per-client": 4,
        "generation.iterations": 1,
        "distillation.epochs": 1,
        "distillation.layers": layers,
    }
    methods()["fedf2dg"].run(known, Settings.of(RunConfiguration.parse(keys)))
    changed = {name for name, v in known.global_state.items() if not torch.equal(v, before[name])}
    assert {"head.weight", "head.bias"} <= changed
    assert any(name.startswith("encoder.") for name in changed) == moved
