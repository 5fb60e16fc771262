"""F-ADI, DENSE, Co-Boosting and FedFTG on a toy federation of real digits."""

import copy
from functools import cache

import pytest
import torch
from torch.nn import functional as F

from foundation.data import DataSet
from foundation.errors import ExpectedError
from foundation.events.family import EpochDone
from foundation.models import build, cpu_state
from foundation.models.aggregation import combine
from foundation.models.state import StateLayout
from foundation.settings.configuration import RunConfiguration
from post_training import Settings, methods
from post_training.co_boosting import diversified
from post_training.library import TrainedModels
from post_training.local_ensemble import ALL_CLIENTS, NoTeacher, balanced_labels, local_ensemble
from post_training.trained import Inputs

PEERS = ("fedadi", "dense", "co_boosting", "fedftg")
CLASSES = 4
# Of each client, images by class: skewed, and nobody has too few of anything to learn.
COUNTS = {0: [60, 60, 6, 6], 1: [6, 6, 60, 60]}
SMALL = {
    "generation.iterations": 40,
    "fedadi.images": 64,
    "fedadi.epochs": 20,
    "dense.epochs": 4,
    "dense.steps": 20,
    "dense.width": 16,
    "dense.generator-learning-rate": 0.01,
    "dense.batch-size": 32,
    "co-boosting.epochs": 4,
    "co-boosting.steps": 20,
    "co-boosting.width": 16,
    "co-boosting.generator-learning-rate": 0.01,
    "co-boosting.batch-size": 32,
    "fedftg.iterations": 25,
    "fedftg.warm-up": 25,
    "fedftg.width": 16,
    "fedftg.generator-learning-rate": 0.01,
    "fedftg.learning-rate": 0.01,
    "fedftg.batch-size": 32,
}


def settings(**keys):
    values = {name.replace("__", ".").replace("_", "-"): value for name, value in keys.items()}
    return Settings.of(RunConfiguration.parse({**SMALL, **values}))


@pytest.fixture(scope="module")
def digits():
    """Images and labels of four classes: those that clients have, and others to test on."""
    data = DataSet("digits").load("train")
    images, labels = torch.tensor(data.images), torch.tensor(data.labels)
    images = (images.float() / 255 - 0.3) / 0.37
    parts, used = {}, torch.zeros(len(labels), dtype=torch.bool)
    for client, counts in COUNTS.items():
        rows = torch.cat(
            [((labels == c) & ~used).nonzero().flatten()[:count] for c, count in enumerate(counts)]
        )
        used[rows] = True
        parts[client] = (images[rows], labels[rows])
    rest = (labels < CLASSES) & ~used
    return parts, (images[rest], labels[rest])


@pytest.fixture(scope="module")
def federation(digits):
    """Return one round's global model and local models."""
    parts, _ = digits
    start = build("resnet8", classes=CLASSES, channels=1, image_size=8, seed=0)
    local = {}
    for client, (images, labels) in parts.items():
        model = copy.deepcopy(start).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        order = torch.Generator().manual_seed(client)
        for _ in range(12):
            for rows in torch.randperm(len(labels), generator=order).split(33):
                loss = F.cross_entropy(model(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        local[client] = cpu_state(model)
    average = combine(
        cpu_state(start), iter(local.values()), StateLayout.of(start), weights=[0.5, 0.5]
    )
    # What averaging under label skew does to a head, made large: it prefers one class.
    average["head.bias"] += torch.tensor([5.0, 0.0, 0.0, 0.0])
    return start, average, local


@pytest.fixture(scope="module")
def make_trained(federation, digits):
    start, average, local = federation
    images, labels = digits[1]

    @torch.no_grad()
    def accuracy(model):
        return float((model(images).argmax(1) == labels).float().mean())

    def make(**other):
        return TrainedModels(
            start,
            average,
            local,
            {client: sum(counts) for client, counts in COUNTS.items()},
            Inputs((1, 8, 8), CLASSES, ((-0.81,), (1.9,))),
            **{"counts": COUNTS, "evaluator": accuracy, **other},
        )

    return make


def accuracy_of(trained, model):
    return trained.evaluator(model)


@pytest.fixture(scope="module")
def carried_out(make_trained):
    """Return a function that carries out a method, once for all tests, on a federation of its own.

    What it returns is the federation afterwards, and the accuracy before.
    """

    @cache
    def run(name):
        trained = make_trained()
        before = accuracy_of(trained, trained.model(trained.global_state))
        methods()[name].run(trained, settings())
        return trained, before

    return run


@pytest.mark.parametrize("name", PEERS)
def test_the_toy_federation_gains(carried_out, name):
    trained, before = carried_out(name)
    (stage,) = trained.results
    assert stage == name
    after = accuracy_of(trained, trained.model(trained.global_state))
    assert after > before + 0.03, (before, after)
    assert list(trained.seconds) == [name]
    loss = [event.loss for event in trained.events if isinstance(event, EpochDone)]
    assert len(loss) > 1


@pytest.mark.parametrize("name", ["fedadi", "fedftg"])
def test_the_same_seed_gives_the_same(make_trained, carried_out, name):
    """Those of dense and co_boosting are held against each other behind a kill, below."""
    again = make_trained()
    methods()[name].run(again, settings())
    for key, value in carried_out(name)[0].global_state.items():
        assert torch.equal(again.global_state[key], value), key


@pytest.mark.parametrize("name", ["dense", "co_boosting"])
def test_images_that_were_made_before_a_kill_are_found_and_the_result_is_the_same(
    make_trained, carried_out, monkeypatch, name
):
    whole, _ = carried_out(name)
    killed = make_trained()
    commit = killed.commit

    def until_the_second(step):
        commit(step)
        if step == "images-0002":
            raise KeyboardInterrupt

    monkeypatch.setattr(killed, "commit", until_the_second)
    with pytest.raises(KeyboardInterrupt):
        methods()[name].run(killed, settings())
    assert not killed.results
    made = {step: data.images.clone() for step, data in killed.store.items()}
    assert list(made) == [f"images-{epoch:04d}" for epoch in (1, 2)]
    monkeypatch.setattr(killed, "commit", commit)
    methods()[name].run(killed, settings())
    assert all(torch.equal(killed.store[step].images, images) for step, images in made.items())
    for key, value in whole.global_state.items():
        assert torch.equal(killed.global_state[key], value), key


@pytest.mark.parametrize("name", PEERS)
def test_a_model_that_is_not_finite_is_left_out_by_name(make_trained, federation, caplog, name):
    broken = {key: value.clone() for key, value in federation[2][0].items()}
    broken["head.bias"][0] = torch.nan
    trained = make_trained(numbers=(70, 71))
    trained.local_models = {0: broken, 1: federation[2][1]}
    few = {"fedftg__iterations": 2, "dense__epochs": 1, "co-boosting__epochs": 1}
    methods()[name].run(trained, settings(**few, fedadi__epochs=1))
    assert "client 70 is left out of the ensemble: head.bias" in caplog.text
    assert all(torch.isfinite(value).all() for value in trained.global_state.values())
    trained.local_models = {0: broken}
    with pytest.raises(NoTeacher):
        local_ensemble(trained)


@pytest.mark.parametrize("name", PEERS)
def test_what_cannot_work_is_refused_before_any_work(name):
    suits, model = methods()[name].suits, build("resnet8", classes=3, channels=1, image_size=8)
    suits(model, settings())
    with pytest.raises(ValueError, match=f"{name}.*generation.place=client"):
        suits(model, settings(generation__place="client"))
    without = build("cnn", classes=3, channels=1, image_size=8)
    if name in ("fedadi", "dense"):
        key = "generation__bn_weight" if name == "fedadi" else "dense__bn_weight"
        with pytest.raises(ValueError, match=key.replace("__", ".").replace("_", "-")):
            suits(without, settings())
        suits(without, settings(**{key: 0.0}))
    else:
        suits(without, settings())


def test_fedftg_needs_label_counts(make_trained):
    suits = methods()["fedftg"].suits
    with pytest.raises(ValueError, match="label-counts=uniform"):
        suits(build("resnet8", classes=3), settings(label_counts="uniform"))
    for counts in (None, {0: COUNTS[0]}):
        with pytest.raises(ExpectedError, match=r"label counts; .* client 71"):
            trained = make_trained(counts=counts, numbers=range(70, 80))
            methods()["fedftg"].run(trained, settings())


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n in PEERS for s in ((3, 32, 32),)])
def test_colour_images_of_32_pixels_work(name, shape):
    model = build("resnet8", classes=3, channels=3, image_size=32, seed=0)
    trained = TrainedModels(
        model,
        cpu_state(model),
        {0: cpu_state(model), 1: cpu_state(build("resnet8", classes=3, seed=1))},
        {0: 5, 1: 6},
        Inputs(shape, 3),
        counts={0: [5, 0, 0], 1: [0, 3, 3]},
    )
    few = {"generation__iterations": 2, "fedadi__images": 6, "fedadi__epochs": 1}
    few |= {f"{name.replace('_', '-')}__batch_size": 6}
    if name in ("dense", "co_boosting"):
        few |= {f"{name.replace('_', '-')}__epochs": 2, f"{name.replace('_', '-')}__steps": 2}
    methods()[name].run(trained, settings(**few, fedftg__iterations=1, fedftg__warm_up=1))
    for data in trained.store.values():
        assert data.images.shape[1:] == shape
        assert data.sources.eq(ALL_CLIENTS).all()


def test_labels_are_balanced_over_the_classes_that_somebody_holds(make_trained):
    trained = make_trained(counts={0: [3, 0, 0, 1], 1: [0, 0, 9, 0]})
    assert balanced_labels(trained, 30, 0).bincount(minlength=4).tolist() == [10, 0, 10, 10]
    unknown = make_trained(counts=None)
    assert balanced_labels(unknown, 40, 0).bincount(minlength=4).tolist() == [10] * 4


def test_moved_images_differ_by_the_step_and_raise_what_they_are_moved_for(make_trained):
    trained = make_trained()
    _, ensemble = local_ensemble(trained)
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(8, 1, 8, 8, generator=draw)
    direction = 2 * torch.rand(8, CLASSES, generator=draw) - 1

    def wanted(seen):
        return float((direction * (ensemble(seen) / 4).softmax(1)).sum())

    moved = diversified(images, ensemble, direction, torch.full((1, 1, 1), 0.01))
    assert (moved - images).abs().max() == pytest.approx(0.01, rel=1e-3)
    assert wanted(moved) > wanted(images)
    assert torch.equal(diversified(images, ensemble, direction, torch.zeros(1, 1, 1)), images)
