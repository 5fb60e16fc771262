import json
from pathlib import Path

import numpy as np
import pytest

from fedf2dg import load_model, simulate
from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent
from foundation.settings.configuration import RunConfiguration
from questions.pixel_sums import PixelSums, PixelSumsRequest


def drawn(count: int, seed: int, channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, channels, 5, 4), dtype=np.uint8)


def pooled(*parts: PixelSums) -> tuple[list[float], list[float]]:
    return PixelSumsRequest((3, 5, 4)).pooled(dict(enumerate(parts)))


def test_pooled_sums_are_the_mean_and_deviation_of_all_images_together():
    parts = [drawn(1, 0), drawn(40, 1) // 3, drawn(7, 2)]
    mean, std = pooled(*map(PixelSums.of, parts))
    every = np.concatenate(parts).astype(np.float64) / 255
    assert mean == pytest.approx(every.mean((0, 2, 3)), abs=1e-12)
    assert std == pytest.approx(every.std((0, 2, 3)), abs=1e-12)


def test_images_of_one_grey_value_can_still_be_normalised():
    sums = PixelSums.of(np.full((3, 1, 4, 4), 200, np.uint8))
    assert pooled(sums) == ([200 / 255], [1 / 255])


def checked(content: Content) -> PixelSums:
    """Hold an answer against six images of 5x4 pixels and three channels."""
    request = PixelSumsRequest((3, 5, 4))
    return request.checked(Participant(0, 100, 6), Received(content.records()))


def test_what_is_sent_is_what_arrives():
    sums = PixelSums.of(drawn(6, 3))
    assert checked(sums.content()) == sums


@pytest.mark.parametrize(
    "lie",
    [
        {"pixels": 6 * 20 * 1000},  # would weigh a thousand times its images
        {"pixel-sums": [-1, 1, 1]},
        {"pixel-sums": [1.5, 1.0, 1.0]},
        {"pixel-sums": [1, 1]},
        {"pixel-sums": [0, 0, 0]},  # though the squares are not 0
        {"pixel-squares": [0, 0, 0]},
        {"pixel-squares": [2**61] * 3},
        {"pixel-sums": 5},
    ],
    ids=str,
)
def test_sums_that_no_images_have_are_refused(lie):
    told = {**PixelSums.of(drawn(6, 4)).content().numbers, **lie}
    with pytest.raises(InvalidContent):
        checked(Content(numbers=told))


def test_a_client_that_sends_no_sums_is_refused():
    with pytest.raises(InvalidContent, match="metrics"):
        checked(Content())


@pytest.mark.slow
def test_a_run_is_normalised_by_its_clients_training_images_also_when_it_is_resumed(tmp_path):
    keys = {
        "strategy": "fedavg",
        "num-clients": 3,
        "num-server-rounds": 1,
        "local-epochs": 1,
        "processes": 1,
        "normalization": "measured",
        "output-dir": str(tmp_path / "run"),
        "stages": "train",
    }
    configuration = RunConfiguration.parse(keys)
    summary = simulate(configuration, "local")
    rows = np.concatenate([configuration.division.rows(client)[0] for client in range(3)])
    pixels = configuration.data_set.load("train").images[rows] / 255
    kept = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert kept["mean"] == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-9)
    assert kept["std"] == pytest.approx(pixels.std((0, 2, 3)), abs=1e-9)
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["images"]["mean"] == kept["mean"]
    assert summary["traffic"]["pixel sums"]["bytes_up"] == 3 * 8 * (1 + 1 + 1)
    again = {**keys, "stages": "generate", "post-training": "calibration"}
    again |= {"resume-from": str(tmp_path / "run"), "output-dir": str(tmp_path / "on")}
    simulate(RunConfiguration.parse(again), "local")
    later = json.loads((tmp_path / "on" / "model" / "config.json").read_text())
    assert (later["mean"], later["std"]) == (kept["mean"], kept["std"])
    manifest = next(Path(tmp_path / "on" / "checkpoints").glob("0*/manifest.json"))
    assert json.loads(manifest.read_text())["normalization"]["mean"] == kept["mean"]
    assert load_model(tmp_path / "on") is not None
