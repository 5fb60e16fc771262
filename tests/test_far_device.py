"""No stage waits for the device in its loop, nor mixes it with the host: seen without a GPU."""

import numpy as np
import pytest
import torch

from client_app.training import train_locally
from distillation import DistillationSettings, distil
from foundation.data import Batches, FeatureNoise, ImageData, Normalization
from foundation.members import STRATEGIES
from foundation.models import Classifier, build
from foundation.models.evaluation import Evaluator
from foundation.settings.configuration import RunConfiguration
from generation import InversionEngine, InversionSettings
from strategies import get
from strategies.moon import PREVIOUS
from strategies.scaffold import CORRECTION
from tests.far_device import FarDevice

SHAPE = (3, 32, 32)
# Copying a state to a device without values is a no-op that PyTorch warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")


def _model(projection_dim: int = 0) -> Classifier:
    return build("resnet8", classes=10, projection_dim=projection_dim, seed=0)


def _images(count: int, noise: FeatureNoise | None = None) -> ImageData:
    random = np.random.default_rng(0)
    return ImageData(
        random.integers(0, 256, (count, *SHAPE), dtype=np.uint8),
        np.arange(count) % 10,
        tuple("0123456789"),
        feature_noise=noise,
    )


NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize("competition_weight", [0.0, 10.0])
@pytest.mark.parametrize("form", ["corrected", "reference"])
def test_inversion_reads_its_objective_now_and_then(
    monkeypatch: pytest.MonkeyPatch, competition_weight: float, form: str
) -> None:
    monkeypatch.setattr("generation.engine.CHECK_SECONDS", 1e9)
    monkeypatch.setattr("generation.engine.CHECK_INTERVAL", 4)
    model = _model().eval()
    settings = InversionSettings(
        iterations=10,
        competition_weight=competition_weight,
        form=form,
        l2_weight=1e-3,
        compile="off",
    )
    with FarDevice(monkeypatch) as device:
        engine = InversionEngine(
            model,
            SHAPE,
            settings,
            global_model=model,
            pixel_range=([-2.0] * 3, [2.0] * 3),
            device="meta",
        )
        engine.invert(model, torch.arange(6), seed=0)
    # Steps 1, 4, 8 and 10; afterwards images, logits and the final objective; the largest pixel
    # and the largest logit.
    assert device.reads == {"generation/engine.py": 4 + 3 + 2}


@pytest.mark.parametrize("form", ["corrected", "reference"])
@pytest.mark.parametrize("statistics", ["frozen", "update"])
def test_distillation_reads_one_number_an_epoch(
    monkeypatch: pytest.MonkeyPatch, form: str, statistics: str
) -> None:
    model = _model()
    settings = DistillationSettings(epochs=3, batch_size=8, form=form, statistics=statistics)
    with FarDevice(monkeypatch) as device:
        distil(model, torch.zeros(40, *SHAPE), torch.zeros(40, 10), settings, seed=0, device="meta")
    the_model_itself = len(model.state_dict())
    assert device.reads == {"distillation/training.py": 3 + the_model_itself}


@pytest.mark.parametrize(
    ("augmentation", "noise"),
    [("none", None), ("crop-flip", None), ("crop-flip-rotate", FeatureNoise(0.1))],
)
@pytest.mark.parametrize("strategy", STRATEGIES.ours)
def test_local_training_reads_one_number_a_round(
    monkeypatch: pytest.MonkeyPatch, strategy: str, augmentation: str, noise: FeatureNoise | None
) -> None:
    algorithm = get(strategy)
    near = _model(projection_dim=16 if algorithm.projection else 0)
    received = {
        CORRECTION: {name: value.detach() for name, value in near.named_parameters()},
        PREVIOUS: near.state_dict(),
    }
    client = algorithm.client(RunConfiguration(strategy=strategy))
    with FarDevice(monkeypatch) as device:
        model = near.to("meta")
        batches = Batches(
            _images(15, noise),
            normalization=NORMALIZATION,
            batch_size=8,
            augmentation=augmentation,
            device="meta",
            channels_last=True,
        )
        client.begin_round(model, received)
        result = train_locally(
            model, batches, client, generator=torch.Generator().manual_seed(0), epochs=2
        )
    assert result.steps == 4
    assert device.reads == {"client_app/training.py": 1}


def test_evaluation_reads_its_result_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with FarDevice(monkeypatch) as device:
        evaluate = Evaluator(_images(200), NORMALIZATION, torch.device("meta"))
        evaluate(_model().to("meta"))
    assert device.reads == {"foundation/models/evaluation.py": 2}


def test_the_device_notices_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with FarDevice(monkeypatch) as device:
        far, near = torch.ones(3, device="meta"), torch.ones(3)
        far.sum().item()
        far.cpu()
        assert device.reads == {"a test": 2}
        with pytest.raises(AssertionError, match="mixes devices"):
            far + near
        with pytest.raises(AssertionError, match="wait"):
            torch.nonzero(far)
