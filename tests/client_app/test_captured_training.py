"""What is replayed is the step, for every strategy and local loss.

Without a GPU, ``tests/fake_graphs.py`` records. With one, or ``FEDF2DG_TEST_DEVICE=cuda``, CUDA
graphs do. Needs no Flower: ``pytest --noconftest``.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.gpu.without_flower import allow_missing_flower
from foundation import capture
from foundation.data import Batches, ImageData, Normalization
from foundation.members import LOCAL_LOSSES, STRATEGIES
from foundation.models import Classifier, build
from foundation.settings.configuration import RunConfiguration
from tests.fake_graphs import FakeGraphs

allow_missing_flower()

DEVICE = torch.device(
    os.environ.get("FEDF2DG_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
)
#: Three batches of 8 images and one of 3 in an epoch.
IMAGES, BATCH, EPOCHS = 27, 8, 3
REPLAYS = 3 * EPOCHS - capture.WARM_UP + EPOCHS - capture.WARM_UP


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the recorder is told, in order; products are exact, sums in a steady order."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(capture, "GIVEN_UP", set())
    if DEVICE.type == "cpu":
        return FakeGraphs(monkeypatch).told
    graphs, told = capture.CudaGraphs(DEVICE), []

    def record(run: Any) -> Any:
        replay, result = capture.CudaGraphs.record(graphs, run)
        told.append("recorded")
        return lambda: (told.append("replayed"), replay()), result

    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setitem(capture.RECORDERS, "cuda", lambda device: graphs)
    return told


def _with_steps_of_their_own() -> list[str]:
    """Return the strategies whose local step is not FedAvg's, and that."""
    from strategies import ClientAlgorithm, get

    declared = [get(name) for name in STRATEGIES.ours]
    return ["fedavg"] + [
        each.name for each in declared if each.client is not ClientAlgorithm or each.local_loss
    ]


def _model(strategy: str, seed: int = 0) -> Classifier:
    from strategies import get

    projection = 16 if get(strategy).projection else 0
    return build(
        "resnet8", classes=4, channels=1, image_size=8, projection_dim=projection, seed=seed
    )


def _trained(
    keys: dict[str, Any], client: type | None = None, **options: Any
) -> tuple[Tensor, Tensor, float]:
    """Return what three epochs began and ended with, joined, and their loss."""
    from client_app.training import local_loss, train_locally
    from strategies import get
    from strategies.controls import CORRECTION
    from strategies.moon import PREVIOUS

    random = np.random.default_rng(0)
    data = ImageData(
        random.integers(0, 256, (IMAGES, 1, 8, 8), dtype=np.uint8),
        random.integers(0, 2, IMAGES),  # two of the four classes are vacant
        tuple("0123"),
    )
    batches = Batches(
        data,
        normalization=Normalization((0.5,), (0.25,)),
        batch_size=BATCH,
        augmentation="crop-flip",
        device=DEVICE,
        channels_last=True,
    )
    configuration = RunConfiguration.parse({"strategy": "fedavg", "proximal-mu": 1.0, **keys})
    declared = get(configuration.strategy)
    other = _model(configuration.strategy, seed=1)
    received = {
        CORRECTION: {name: 0.1 * value.detach() for name, value in other.named_parameters()},
        PREVIOUS: other.state_dict(),
    }
    model = _model(configuration.strategy).to(DEVICE).to(memory_format=torch.channels_last)
    start = torch.cat([value.detach().flatten().clone() for value in _floats(model)])
    algorithm = (client or declared.client)(configuration)
    algorithm.begin_round(model, received)
    loss = local_loss(declared, configuration, lambda: batches.labels.bincount(minlength=4), model)
    generator = torch.Generator().manual_seed(0)
    result = train_locally(
        model, batches, algorithm, generator=generator, loss=loss, epochs=EPOCHS, **options
    )
    assert result.steps == 4 * EPOCHS
    return start, torch.cat([value.detach().flatten() for value in _floats(model)]), result.loss


def _floats(model: nn.Module) -> list[Tensor]:
    """Return parameters and running statistics."""
    return [value for value in model.state_dict().values() if value.is_floating_point()]


def _same_as_eager(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], tolerance: float = 1e-3, **options: Any
) -> None:
    _, found, loss = _trained(keys, **options)
    monkeypatch.setenv(capture.SWITCH, "off")
    start, expected, eager_loss = _trained(keys, **options)
    assert float((found - expected).norm() / (expected - start).norm()) < tolerance
    assert loss == pytest.approx(eager_loss, rel=tolerance)


@pytest.mark.parametrize("strategy", _with_steps_of_their_own())
def test_a_replayed_step_is_that_of_its_strategy(
    monkeypatch: pytest.MonkeyPatch, recorded: list[str], strategy: str
) -> None:
    _same_as_eager(monkeypatch, {"strategy": strategy})
    assert recorded.count("recorded") == 2 and recorded.count("replayed") == REPLAYS


@pytest.mark.parametrize("loss", ["symmetric-cross-entropy", *LOCAL_LOSSES.ours])
def test_a_replayed_step_is_that_of_its_loss(
    monkeypatch: pytest.MonkeyPatch, recorded: list[str], loss: str
) -> None:
    _same_as_eager(monkeypatch, {"local-loss": loss})
    assert recorded.count("replayed") == REPLAYS


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ({"momentum": 0.0, "weight-decay": 0.1}, {}),
        ({"encoder-step": 0.1}, {}),
        ({}, {"learning_rate": 0.003}),
        ({}, {"frozen_statistics": True}),
    ],
)
def test_a_replayed_step_is_what_its_settings_say(
    monkeypatch: pytest.MonkeyPatch, recorded: list[str], keys: dict[str, Any], options: Any
) -> None:
    _same_as_eager(monkeypatch, keys, **options)
    assert recorded.count("replayed") == REPLAYS


@pytest.mark.parametrize("strategy", ["fedavg", "moon"])
def test_a_replayed_step_is_that_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, recorded: list[str], strategy: str
) -> None:
    # On a GPU sums of products in bfloat16 may come in any order.
    _same_as_eager(monkeypatch, {"strategy": strategy}, tolerance=0.1, autocast=torch.bfloat16)
    assert recorded.count("replayed") == REPLAYS


def test_hooks_of_ones_own_are_called_in_every_step_and_the_log_says_so(
    recorded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    from strategies import ClientAlgorithm

    class Counting(ClientAlgorithm):
        calls = 0

        def adjust_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
            Counting.calls += 1

    capture.warn_once.cache_clear()
    _trained({}, client=Counting)
    assert Counting.calls == 4 * EPOCHS and not recorded
    assert "Counting does not say capturable=True" in caplog.text
