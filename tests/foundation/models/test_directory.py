"""A model's directory gives back the model that was written, and nothing else passes for one."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundation.models import (
    ModelDescription,
    ModelDirectoryError,
    cpu_state,
    read_model,
    write_model,
)

GREY = ModelDescription("resnet8", 0, ("zero", "one", "two"), 1, (8, 8), (0.5,), (0.25,))
COLOUR = ModelDescription("cnn", 0, ("a", "b"), 3, (10, 12), (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))


def written(folder: Path, description: ModelDescription = GREY) -> Path:
    write_model(folder, description, cpu_state(description.build()), "# Card\n")
    return folder


@pytest.mark.parametrize("description", [GREY, COLOUR, replace(GREY, projection_dim=5)])
def test_what_is_written_is_read(tmp_path: Path, description: ModelDescription) -> None:
    original = description.build()
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.add_(torch.randn_like(parameter))
    write_model(tmp_path / "model", description, cpu_state(original), "# Card\n")
    found, model = read_model(tmp_path / "model")
    assert found == description
    assert not model.training
    images = torch.randn(4, description.channels, *description.image_size)
    with torch.no_grad():
        assert torch.equal(model(images), original.eval()(images))


def test_a_model_is_replaced_and_the_umask_says_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        written(tmp_path / "model", COLOUR)
        written(tmp_path / "model", GREY)
    finally:
        os.umask(before)
    assert read_model(tmp_path / "model")[0] == GREY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes == {"README.md": 0o640, "config.json": 0o640, "model.safetensors": 0o640}
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o750


def changed(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, **values}))

    return change


def without(key: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        del content[key]
        (folder / "config.json").write_text(json.dumps(content))

    return change


def not_finite(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["head.bias"][0] = torch.nan
    save_file(state, folder / "model.safetensors")


def cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-7])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be used"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json cannot be used"),
        (lambda folder: (folder / "config.json").write_text('{"a": 1}'), "names no 'format'"),
        (changed(format=2), "has format 2"),
        (changed(architecture="bert"), "unknown model 'bert'"),
        (changed(classes=["a", "b"]), "belong to another model"),
        (changed(classes=[]), "no such image classifier"),
        (changed(channels=2), "no such image classifier"),
        (changed(image_size=[8]), "config.json cannot be used"),
        (changed(mean=[0.5, 0.5]), "a value per channel"),
        (changed(std=[0.0]), "std above 0"),
        (changed(projection_dim=7), "belong to another model"),
        (without("image_size"), "names no 'image_size'"),
        (cut, "model.safetensors cannot be used"),
        (not_finite, "'head.bias' holds NaN"),
    ],
)
def test_a_damaged_or_foreign_directory_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(written(tmp_path / "model"))
    with pytest.raises(ModelDirectoryError) as caught:
        read_model(tmp_path / "model")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelDirectoryError, match="nothing is not a directory"):
        read_model(tmp_path / "nothing")
