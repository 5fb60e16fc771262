"""post_train on plain state dictionaries of somebody else's model."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from fedf2dg import post_train
from foundation.models import cpu_state
from foundation.settings.configuration import ConfigurationError

SMALL = {
    "generation.images-per-client": 6,
    "generation.iterations": 2,
    "distillation.epochs": 2,
}
SHAPE = (3, 8, 8)


def foreign(seed, classes=4):
    """Return a model whose names and layers are not ours."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes)
    )


def improve(clients=(7, 2**60, 12), **changes):
    """Call it for clients with any numbers."""
    keys = {
        "model": foreign(0),
        "global_state": cpu_state(foreign(1)),
        "local_models": {client: cpu_state(foreign(client % 1000)) for client in clients},
        "num_examples": dict.fromkeys(clients, 10),
        "image_shape": SHAPE,
        "device": "cpu",
        "method": "fedf2dg",
        "settings": SMALL,
    }
    return post_train(**{**keys, **changes})


@pytest.mark.parametrize("method", ["fedf2dg", "calibration", "calibration,fedf2dg"])
def test_a_foreign_model_is_improved_upon_and_left_alone(method):
    model, global_state = foreign(0), cpu_state(foreign(1))
    before = [cpu_state(model), {name: v.clone() for name, v in global_state.items()}]
    result = improve(model=model, global_state=global_state, method=method)
    assert result.state.keys() == global_state.keys()
    assert any(not torch.equal(result.state[name], v) for name, v in global_state.items())
    for state, earlier in zip([cpu_state(model), global_state], before, strict=True):
        assert all(torch.equal(state[name], value) for name, value in earlier.items())
    stages = {"fedf2dg": ["distilled"], "calibration": ["calibrated"]}
    assert list(result.stages) == [s for name in method.split(",") for s in stages[name]]
    assert result.state is result.stages[list(result.stages)[-1]]
    assert {images.images.shape[1:] for images in result.images.values()} == {SHAPE}


def test_the_same_seed_gives_the_same_and_another_another():
    first, again, other = improve(), improve(), improve(seed=1)
    assert all(torch.equal(first.state[name], value) for name, value in again.state.items())
    assert any(not torch.equal(first.state[name], value) for name, value in other.state.items())


def test_only_classes_that_a_client_has_are_asked_of_its_model():
    counts = {7: [5, 5, 0, 0], 12: [0, 0, 10, 0], 2**60: [0, 0, 0, 10]}
    data = improve(label_counts=counts).images["generate-00"]
    for index, client in enumerate(sorted(counts)):
        held = {label for label, count in enumerate(counts[client]) if count}
        assert set(data.labels[data.sources == index].tolist()) == held


def test_pixels_stay_where_the_normalization_has_real_ones():
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]
    images = improve(normalization=(mean, std)).images["generate-00"].images
    for channel in range(3):
        restored = images[:, channel] * std[channel] + mean[channel]
        assert float(restored.min()) >= -1e-5 and float(restored.max()) <= 1 + 1e-5


def test_what_is_measured_is_reported_and_progress_told():
    told = set()
    result = improve(evaluate=lambda model: 0.25, progress=lambda what, *_: told.add(what))
    assert result.accuracy == {"distilled": 0.25}
    assert told == {"distillation", "inversion of common samples"}
    assert result.seconds.keys() == {"generation", "distillation", "competition"}


def test_counters_that_were_averaged_to_fractions_are_whole_again():
    averaged = cpu_state(foreign(1))
    averaged["1.num_batches_tracked"] = torch.tensor(7.5, dtype=torch.float64)
    result = improve(global_state=averaged)
    assert result.state["1.num_batches_tracked"].dtype == torch.int64
    foreign(0).load_state_dict(result.state)


def test_one_model_that_cannot_be_inverted_is_left_out():
    models = {client: cpu_state(foreign(client)) for client in (0, 1, 2)}
    models[1]["4.weight"] *= 1e30
    result = improve(clients=(0, 1, 2), local_models=models)
    assert set(result.images["generate-00"].sources.tolist()) == {0, 2}
    (made,) = [event for event in result.events if event["event"] == "generation"]
    assert [failure["client"] for failure in made["failures"]] == [1]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image_shape": (1, 8, 8)}, ValueError, "does not take images of shape"),
        ({"global_state": cpu_state(foreign(1, 5))}, ValueError, "belong to another model"),
        ({"num_examples": {7: 1, 12: 1}}, ValueError, r"no positive number for clients \[1152"),
        ({"num_examples": None}, ValueError, "num_examples is missing"),
        ({"local_models": {}}, ValueError, "local_models is empty"),
        ({"label_counts": {7: [1, 2, 3, 4]}}, ValueError, "label_counts of client 12"),
        (
            {"normalization": ([0], [1]), "pixel_range": ([0], [1])},
            ValueError,
            "normalization or pixel_range, not both",
        ),
        ({"method": "magic"}, ConfigurationError, "magic"),
        ({"settings": {"learning-rate": 1.0}}, ConfigurationError, "nothing about post-training"),
        ({"settings": {"generation.place": "client"}}, ConfigurationError, "no clients here"),
        ({"settings": {"generation.iterations": 0}}, ConfigurationError, "at least 1"),
        (
            {"method": "calibration", "model": foreign(0)[:4], "global_state": {}},
            ValueError,
            "entries missing",
        ),
    ],
)
def test_what_cannot_work_is_said_before_any_work(changes, error, message):
    def never(*_):
        raise AssertionError("work has begun")

    with pytest.raises(error, match=message):
        improve(**changes, progress=never)


@pytest.mark.parametrize(("side", "chosen"), [(8, "fedf2dg"), (16, "fedf2dg,calibration")])
def test_auto_asks_for_photographs_alone_and_says_so(side, chosen, caplog):
    asked = []

    def ask(request):
        asked.append(request)

    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 4),
    )
    state = cpu_state(model)
    models = {client: cpu_state(model) for client in (0, 1)}
    with caplog.at_level("WARNING", "flwr.fedf2dg"):
        improve(
            (0, 1),
            model=model,
            global_state=state,
            local_models=models,
            image_shape=(3, side, side),
            method="auto",
            ask=ask,
        )
    assert bool(asked) == ("calibration" in chosen)
    assert ("no client is asked" in caplog.text) != bool(asked)


def test_the_library_needs_no_flower_and_its_names_load_when_they_are_used():
    program = (
        "import sys, fedf2dg; assert 'torch' not in sys.modules; "
        "from fedf2dg import post_train; assert 'flwr' not in sys.modules; "
        "from fedf2dg import KeptModels; assert 'flwr' not in sys.modules; "
        "from fedf2dg import KeepLocalModels; assert 'flwr' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
