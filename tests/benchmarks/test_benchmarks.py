"""The benchmarks run, at a size that takes seconds; their textbook versions do the same work."""

import json
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from benchmarks import inversion, measure, training
from benchmarks.__main__ import STAGES, main
from benchmarks.growth import Growth
from benchmarks.simulation import bare_loop, local_engine, loop_configuration
from benchmarks.textbook import textbook_training
from client_app.training import train_locally
from foundation import models
from foundation.capture import SWITCH
from foundation.data import Batches, ImageData, Normalization
from foundation.settings.configuration import RunConfiguration
from strategies import get
from tests.fake_graphs import FakeGraphs


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_runs_at_the_tiny_size(stage: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    output = tmp_path / "measured.json"
    try:
        main(["--size", "tiny", "--only", stage, "--device", "cpu", "--output", str(output)])
    finally:
        torch.set_num_threads(threads)
    measured = json.loads(output.read_text("utf-8"))["measured"]
    assert measured and all(result["setup"] for result in measured)
    for result in measured:
        for variant in result.get("variants", []):
            assert variant["median"] > 0 and len(variant["seconds"]) >= 5
    assert (tmp_path / "measured-growth.svg").exists() == (stage == "growth")


@pytest.mark.parametrize("stage", [inversion, training])
def test_recorded_steps_are_timed_behind_those_taken_one_by_one(
    stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = FakeGraphs(monkeypatch)
    monkeypatch.setattr(stage, "REPEATS", 1)
    monkeypatch.setattr(training, "HOOK_SETUPS", {"tiny": []})
    found, told = [], []
    for comparison in stage.run("tiny", torch.device("cpu")):
        found.append(comparison.variants[-1].name)
        told.append("replayed" in graphs.told)
    assert found[1] == f"{found[0]}, recorded" and not told[0]
    assert told[1] or stage is training  # of two steps, which are its warm-up
    assert SWITCH not in os.environ


def test_an_unknown_stage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "inversion,baking"])
    assert "unknown stage 'baking'" in capsys.readouterr().err


def test_a_fitted_exponent_is_the_power_that_the_seconds_follow() -> None:
    values = [2.0, 4.0, 8.0, 16.0]
    square = Growth("s", "q", "", values, [[0.1 * v**2] * 3 for v in values])
    assert square.exponent == pytest.approx(2) and square.last_exponent == pytest.approx(2)
    fixed_cost = Growth("s", "q", "", values, [[100 + v] for v in values])
    assert fixed_cost.exponent < fixed_cost.last_exponent < 0.2


def test_textbook_training_takes_the_steps_of_the_product() -> None:
    """With one batch and no augmentation neither order nor transforms can differ."""
    random = np.random.default_rng(0)
    data = ImageData(
        random.integers(0, 256, (12, 3, 8, 8), dtype=np.uint8),
        random.integers(0, 10, 12),
        tuple("0123456789"),
    )
    normalization = Normalization((0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    configuration = RunConfiguration.parse({"strategy": "fedavg"})
    plain, ours = (
        models.build("resnet8", classes=10, channels=3, image_size=8, seed=0) for _ in range(2)
    )
    losses = [
        textbook_training(
            plain,
            data,
            normalization,
            crop_and_flip=False,
            batch_size=12,
            learning_rate=configuration.learning_rate,
            momentum=configuration.momentum,
            weight_decay=configuration.weight_decay,
            device=torch.device("cpu"),
        )[0]
        for _ in range(2)
    ]
    batches = Batches(data, normalization=normalization, batch_size=12)
    algorithm = get("fedavg").client(configuration)
    for expected in losses:
        # The textbook's optimizer is as new in every epoch as ours is in every call.
        result = train_locally(
            ours, batches, algorithm, generator=torch.Generator().manual_seed(0), epochs=1
        )
        assert result.loss == pytest.approx(expected, rel=1e-4)


def test_the_bare_loop_ends_with_the_engine_s_model(tmp_path: Path) -> None:
    device = torch.device("cpu")
    _, bare = bare_loop(loop_configuration(3, 60, 2, device, tmp_path / "bare"))
    _, engine = local_engine(loop_configuration(3, 60, 2, device, tmp_path / "engine"))
    for name, value in engine.items():
        if value.is_floating_point():
            torch.testing.assert_close(bare[name], value, rtol=1e-4, atol=1e-5)


def test_types_that_the_hardware_only_emulates_are_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(measure, "ceiling", lambda dtype, device: 1.0)
    for native, types in ((True, {"float32", "bfloat16"}), (False, {"float32"})):
        monkeypatch.setattr(measure, "native_bfloat16", lambda device, native=native: native)
        measured = measure.measure_ceilings(cpu)
        assert set(measured) == types
        (small,), (full,) = inversion.WAYS["small"], inversion.WAYS["full"]
        ways = inversion.possible(small, measured)
        assert ways == [("float32", "off"), ("bfloat16" if native else "float32", "on")]
        assert len(inversion.possible(full, measured)) == 2 * len(types)
