"""Photographs of many sizes, from their folder to the end of a run."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedf2dg import RunConfiguration, simulate
from foundation import ExpectedError

TINY = {
    "dataset": "folder",
    "strategy": "fedavg",
    "model": "cnn",
    "num-clients": 2,
    "partition": "iid",
    "num-server-rounds": 1,
    "local-epochs": 1,
    "processes": 1,
    "generation.images-per-client": 4,
    "generation.batches": 1,
    "generation.iterations": 2,
    "distillation.epochs": 1,
    "competition.rounds": 1,
}


def photographs(root: Path) -> Path:
    draws = np.random.default_rng(0)
    for index in range(60):
        size = (20 + index % 20, 45 - index % 20, 3)
        image = Image.fromarray(draws.integers(0, 256, size, dtype=np.uint8))
        place = root / "abc"[index % 3] / f"{index}.{('png', 'jpeg', 'webp')[index % 3]}"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.save(place)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path / "cache"))


def test_photographs_of_many_sizes_run_to_the_end_and_resume_in_that_size(tmp_path: Path) -> None:
    values = {
        **TINY,
        "data-dir": str(photographs(tmp_path / "photos")),
        "output-dir": str(tmp_path / "run"),
    }
    with pytest.raises(ExpectedError, match=r"images differ in size.*image-size=64"):
        simulate(RunConfiguration.parse(values), "local")
    said = io.StringIO()
    summary = simulate(RunConfiguration.parse({**values, "image-size": 16}), "local", said)
    assert summary["status"] == "completed"
    assert "images: 16x16 pixels (resized), RGB; augmentation: crop-flip" in said.getvalue()
    written = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert written["images"] == {
        "size": [16, 16],
        "channels": 3,
        "resized": True,
        "augmentation": "crop-flip",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    again = {**values, "image-size": 20, "output-dir": "", "resume-from": str(tmp_path / "run")}
    with pytest.raises(ExpectedError, match="image-size = 20 here, 16 there"):
        simulate(RunConfiguration.parse(again), "local")


def test_real_photographs_run_to_the_end(tmp_path: Path) -> None:
    place = Path(__file__).parents[2].parent / "shared" / "data" / "ants_bees"
    if not place.is_dir():
        pytest.skip("no photographs of ants and bees beside the repository")
    values = {
        **TINY,
        "data-dir": str(place),
        "image-size": 16,
        "output-dir": str(tmp_path / "run"),
    }
    assert simulate(RunConfiguration.parse(values), "local")["status"] == "completed"
