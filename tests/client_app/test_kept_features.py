"""A frozen encoder is run once over a client's images, and everything comes out as without that."""

import copy

import numpy as np
import pytest
import torch

from client_app.training import train_locally
from fedf2dg import simulate
from foundation.data import Batches, FeatureNoise, ImageData, Normalization
from foundation.models import StateLayout, build, cpu_state, freezing
from foundation.models.class_statistics import class_sums
from foundation.models.evaluation import LabelledImages
from foundation.models.freezing import KeptFeatures, encoder_is_frozen, freeze
from foundation.settings.configuration import RunConfiguration
from strategies import get

NORMALIZATION = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def images(count=48, side=16):
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return ImageData(pixels, np.arange(count) % 4, ("a", "b", "c", "d"))


def frozen_model(projection=0):
    model = build("resnet8", classes=4, image_size=16, projection_dim=projection, seed=3)
    freeze(model, ["encoder"])
    return model.to(memory_format=torch.channels_last)


def batches(**options):
    return Batches(
        images(), normalization=NORMALIZATION, batch_size=16, channels_last=True, **options
    )


def features_of(model, given, autocast=None):
    return KeptFeatures(lambda: (part for part, _ in given.ordered())).of(model, autocast)


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "moon", "fedntd"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_local_training_on_features_is_that_on_images_bit_for_bit(strategy, autocast):
    configuration = RunConfiguration(local_epochs=2, batch_size=16, learning_rate=0.05)
    start = frozen_model(projection=8 if strategy == "moon" else 0)
    ends = []
    for kept in (False, True):
        model, given = copy.deepcopy(start), batches()
        if kept:
            given = given.given(features_of(model, given, autocast))
        algorithm = get(strategy).client(configuration)
        received = {"previous": cpu_state(model)} if strategy == "moon" else {}
        if strategy == "scaffold":
            head = model.head.state_dict(prefix="head.")
            received = {"correction": {n: torch.full_like(v, 0.01) for n, v in head.items()}}
        algorithm.begin_round(model, received)
        generator = torch.Generator().manual_seed(5)
        result = train_locally(model, given, algorithm, generator=generator, autocast=autocast)
        ends.append((cpu_state(model), result.loss, result.steps))
    (one, *said), (other, *said_too) = ends
    assert said == said_too
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["head.weight"], start.head.weight)


def test_statistics_and_judgements_of_features_are_those_of_images():
    model, given = frozen_model(), batches()
    counts = torch.full((4,), 12)
    kept = given.given(features_of(model, given))
    one, other = (
        class_sums(model, source.ordered(), counts, means=True, moment=True)
        for source in (given, kept)
    )
    assert torch.equal(one.feature_sums, other.feature_sums)
    assert torch.equal(one.moment, other.moment)


def test_models_that_differ_in_their_heads_run_the_encoder_once(monkeypatch):
    data = images()
    judging = LabelledImages(
        torch.tensor(data.images),
        torch.tensor(data.labels),
        NORMALIZATION.apply,
        torch.device("cpu"),
    )
    model = frozen_model()
    runs = []
    run = freezing._run
    monkeypatch.setattr(freezing, "_run", lambda *given: runs.append(1) or run(*given))
    inputs = NORMALIZATION.apply(torch.tensor(data.images))
    for seed in range(3):
        torch.manual_seed(seed)
        model.head.reset_parameters()
        found = judging.predictions(model)
        with torch.no_grad():
            expected = model.eval()(inputs.contiguous(memory_format=torch.channels_last))
        assert torch.equal(found.predicted, expected.argmax(dim=1))
    assert len(runs) == 1
    with torch.no_grad():
        next(model.encoder.parameters()).add_(0.1)
    judging.predictions(model)
    assert len(runs) == 2


def test_what_is_stored_is_not_computed_again_and_goes_by_the_encoder():
    stored = {}

    def store(name, compute):
        if name not in stored:
            stored[name] = compute()
        return stored[name]

    model, given = frozen_model(), batches()
    for _ in range(2):
        KeptFeatures(lambda: (part for part, _ in given.ordered()), store).of(model)
    assert len(stored) == 1
    with torch.no_grad():
        model.encoder[1].running_mean.add_(1.0)
    KeptFeatures(lambda: (part for part, _ in given.ordered()), store).of(model)
    assert len(stored) == 2


def test_images_that_differ_by_epoch_are_trained_on_themselves():
    given = batches(augmentation="crop-flip")
    assert batches().steady and not given.steady
    noisy = images()
    noisy = ImageData(noisy.images, noisy.labels, noisy.class_names, FeatureNoise(0.1))
    assert not Batches(noisy, normalization=NORMALIZATION, batch_size=16).steady
    kept = given.given(torch.zeros(48, 64))
    epoch = next(iter(kept.epoch(torch.Generator().manual_seed(0))))
    assert epoch[0].ndim == 4 and next(iter(kept.ordered()))[0].ndim == 2


def test_frozen_layers_keep_their_buffers_too():
    model = frozen_model()
    layout = StateLayout.of(model)
    assert encoder_is_frozen(model)
    assert layout.float_buffers == () and layout.parameters == ("head.weight", "head.bias")
    assert "encoder.1.running_mean" in layout.frozen


def test_a_frozen_encoder_takes_images_without_augmentation_unless_one_is_asked_for():
    assert RunConfiguration(freeze="encoder").augmentation_for("crop-flip") == "none"
    assert RunConfiguration(freeze="encoder.0").augmentation_for("crop-flip") == "crop-flip"
    wished = RunConfiguration(freeze="encoder", augmentation="crop-flip")
    assert wished.augmentation_for("none") == "crop-flip"


def test_a_run_computes_each_clients_features_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path / "cache"))
    runs = []
    run = freezing._run
    monkeypatch.setattr(freezing, "_run", lambda *given: runs.append(1) or run(*given))
    simulate(
        RunConfiguration(
            train_samples=200,
            num_clients=2,
            num_server_rounds=3,
            local_epochs=1,
            partition="iid",
            stages="train",
            processes=1,
            freeze="encoder",
            output_dir=str(tmp_path / "run"),
        )
    )
    # Each client's training images, and the server's test set.
    assert len(runs) == 2 + 1
