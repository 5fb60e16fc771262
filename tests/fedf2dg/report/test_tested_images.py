"""What a report shows of the server's test images: the wrong ones, and each site's own."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedf2dg.report.tested_images import (
    MOST,
    TESTED,
    WrongImages,
    keep_test_images,
    read_test_images,
)
from fedf2dg.use.evaluate import evaluate
from fedf2dg.use.trained_model import load_model
from foundation.data import DataSet
from foundation.models import ModelDescription, cpu_state, write_model
from foundation.settings.configuration import RunConfiguration

NAMES = ("cat", "dog")


def test_the_surest_are_kept_in_their_order_and_read_again() -> None:
    wrong, order = WrongImages(), np.random.default_rng(0).permutation(200)
    for place in order:
        wrong.add(f"image {place}", "here", place / 200, np.full((1, 2, 2), 128, np.uint8))
    (section,) = WrongImages.read(json.loads(json.dumps(asdict(wrong)))).section()
    gallery = section.parts[1]
    said = [lines[0].split(" (")[0] for _, lines in gallery.pictures]  # type: ignore[attr-defined]
    assert said == [f"image {place}" for place in range(199, 199 - MOST, -1)]
    assert "200 images" in section.html() and f"the {MOST} it is surest of" in section.html()
    assert WrongImages().section() == []


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run's directory: an untrained model, and two sites with test images of noise."""
    rng, photos = np.random.default_rng(1), tmp_path / "photos"
    counts = {"north/test": 7, "north/train": 3, "south/test": 4, "south/train": 3}
    for place, count in counts.items():
        for name in NAMES:
            (photos / place / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(photos / place / name / f"{index}.png")
    directory = tmp_path / "run"
    (directory / "model").mkdir(parents=True)
    description = ModelDescription("cnn", 0, NAMES, 3, (9, 9), (0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    torch.manual_seed(0)
    write_model(directory / "model", description, cpu_state(description.build()), "# Card\n")
    given = RunConfiguration(
        dataset="folder", data_dir=str(photos), partition="folders", num_clients=2
    )
    (directory / "config.json").write_text(json.dumps({"configuration": given.flat()}))
    return directory


def test_each_sites_test_images_are_judged_as_evaluate_does(run: Path) -> None:
    keep_test_images(run)
    table, wrong = read_test_images(run, NAMES)
    assert table is not None and {str(row[0]) for row in table.rows} == {"north", "south"}
    found = evaluate(load_model(run), [run.parent / "photos"], print)
    right = {str(row[0]): row[2] for row in table.rows}
    assert right == {s: f"{o.right} of {o.images}" for s, o in found.folders.items()}
    count = found.whole.images - found.whole.right
    assert count and wrong[0].html().count("<img ") == count
    assert "north/test/" in wrong[0].html() and str(run.parent) not in wrong[0].html()


def test_answers_that_the_run_has_are_not_asked_for_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set = DataSet("folder", str(run.parent / "photos"))
    model = load_model(run)
    logits = model.logits(model.normalized(data_set.load("test").images)).numpy()
    keep_test_images(run)
    asked = (run / TESTED).read_text()
    monkeypatch.setattr("fedf2dg.use.trained_model.load_model", None)
    keep_test_images(run, logits)
    assert _rounded(json.loads((run / TESTED).read_text())) == _rounded(json.loads(asked))


def _rounded(content: Any) -> Any:
    """Return what a file says but for the last digits, which another batch size changes."""
    if isinstance(content, float):
        return pytest.approx(content, rel=1e-4, abs=1e-6)
    if isinstance(content, dict):
        return {name: _rounded(value) for name, value in content.items()}
    return [_rounded(one) for one in content] if isinstance(content, list) else content


def test_without_a_test_set_nothing_is_shown(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["configuration"]["data-dir"] = ""
    (run / "config.json").write_text(json.dumps(config))
    keep_test_images(run)
    assert not (run / TESTED).exists() and read_test_images(run, NAMES) == (None, [])
