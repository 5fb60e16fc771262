"""Every stage does on a device what it does on the processor: ``FEDF2DG_TEST_DEVICE=cuda``.

Needs no Flower and no ``tests/conftest.py``, for machines that have a GPU and little else:
``pytest --noconftest tests/test_on_device.py``. Without a GPU or the variable it runs on the CPU,
where what is particular to CUDA is skipped.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.gpu.without_flower import allow_missing_flower
from benchmarks.textbook import textbook_inversion
from distillation import DistillationSettings, distil
from foundation.capture import SWITCH, WARM_UP
from foundation.data import Batches, ImageData, Normalization
from foundation.models import Classifier, build
from generation import InversionEngine, InversionSettings

allow_missing_flower()

DEVICE = torch.device(
    os.environ.get("FEDF2DG_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
)
SHAPE = (3, 16, 16)
only_cuda = pytest.mark.skipif(DEVICE.type != "cuda", reason="no CUDA device")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 rounds the factors of convolutions to 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def _model(seed: int) -> Classifier:
    model = build("resnet8", classes=10, channels=3, image_size=16, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for _ in range(10):
            model.train()(torch.randn(64, *SHAPE))
    return model.eval()


def _apart(found: Tensor, expected: Tensor, start: Tensor) -> float:
    """Return how far the steps that were taken are from the expected ones, relative to these."""
    return float((found - expected).norm() / (expected - start).norm())


def _settings(**changes: object) -> InversionSettings:
    given = {"iterations": 10, "learning_rate": 0.1, "precision": "float32", "compile": "off"}
    return InversionSettings(**{**given, "schedule": "constant", **changes})


#: So short that the images stay where they were: a step of Adam goes in the direction of a
#: gradient's sign, and where one is near 0 rounding chooses it, each time on other processors.
SHORT = {"iterations": 3, "learning_rate": 0.001}


@pytest.mark.parametrize("competition_weight", [0.0, 10.0])
def test_the_inversion_is_the_textbook_loop_on_the_processor(competition_weight: float) -> None:
    model, other, labels = _model(0), _model(1), torch.arange(12) % 10
    settings = _settings(competition_weight=competition_weight, **SHORT)
    engine = InversionEngine(model, SHAPE, settings, global_model=other, device=DEVICE)
    start, offsets = engine.start(len(labels), seed=3)
    expected, _ = textbook_inversion(model, start.cpu(), labels, offsets, settings, other)
    assert _apart(engine.invert(model, labels, seed=3).images, expected, start.cpu()) < 1e-2


def test_noise_and_rolls_do_not_depend_on_the_device() -> None:
    here, there = (
        InversionEngine(_model(0), SHAPE, _settings(), device=d) for d in ("cpu", DEVICE)
    )
    images, offsets = here.start(5, seed=1)
    other_images, other_offsets = there.start(5, seed=1)
    assert torch.equal(images, other_images.cpu()) and offsets == other_offsets


def test_bfloat16_ends_near_float32() -> None:
    model, labels = _model(0), torch.arange(32) % 10
    ends = {}
    for precision in ("float32", "bfloat16"):
        settings = _settings(iterations=60, precision=precision)
        engine = InversionEngine(model, SHAPE, settings, device=DEVICE)
        ends[precision] = engine.invert(model, labels, seed=0).objective
    assert ends["bfloat16"] == pytest.approx(ends["float32"], rel=0.1)


@only_cuda
@pytest.mark.parametrize("compilation", ["off", "on"])
def test_recorded_graphs_serve_every_model_and_budget(
    monkeypatch: pytest.MonkeyPatch, compilation: str
) -> None:
    models = [_model(0), _model(1)]
    settings = _settings(**{**SHORT, "iterations": WARM_UP + 3})
    eager = InversionEngine(models[0], SHAPE, settings, device=DEVICE)
    recorded = InversionEngine(
        models[0], SHAPE, replace(settings, compile=compilation), device=DEVICE
    )
    for model, count in ((models[0], 33), (models[1], 33), (models[0], 37), (models[1], 50)):
        labels, start = torch.arange(count) % 10, eager.start(count, seed=count)[0].cpu()
        found = recorded.invert(model, labels, seed=count).images
        with monkeypatch.context() as switch:
            switch.setenv(SWITCH, "off")
            expected = eager.invert(model, labels, seed=count).images
        assert _apart(found, expected, start) < 1e-2


@only_cuda
def test_a_closed_engine_gives_its_memory_back() -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(DEVICE)
    model = _model(0)
    engine = InversionEngine(model, SHAPE, _settings(compile="on"), device=DEVICE)
    engine.invert(model, torch.arange(256) % 10, seed=0)
    assert torch.cuda.memory_reserved(DEVICE) > before
    engine.close()
    assert torch.cuda.memory_reserved(DEVICE) <= before + 2**25


def test_local_training_takes_the_steps_of_the_processor() -> None:
    from client_app.training import train_locally
    from foundation.settings.configuration import RunConfiguration
    from strategies import get

    random = np.random.default_rng(0)
    data = ImageData(
        random.integers(0, 256, (40, *SHAPE), dtype=np.uint8),
        random.integers(0, 10, 40),
        tuple("0123456789"),
    )
    losses = []
    for device in ("cpu", DEVICE):
        model: nn.Module = _model(0).to(device)
        batches = Batches(
            data,
            normalization=Normalization((0.5,) * 3, (0.25,) * 3),
            batch_size=16,
            device=device,
            channels_last=True,
        )
        algorithm = get("fedavg").client(RunConfiguration.parse({"strategy": "fedavg"}))
        generator = torch.Generator().manual_seed(0)
        losses.append(train_locally(model, batches, algorithm, generator=generator, epochs=2).loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_distillation_is_that_of_the_processor() -> None:
    torch.manual_seed(0)
    images, logits = torch.randn(64, *SHAPE), torch.randn(64, 10)
    settings = DistillationSettings(epochs=2, batch_size=32, learning_rate=0.001)
    here, there = (
        distil(_model(0), images, logits, settings, seed=0, device=d).model for d in ("cpu", DEVICE)
    )
    for name, value in here.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(
                there.state_dict()[name].cpu(), value.cpu(), rtol=1e-3, atol=1e-4
            )
