"""What clients could not train on is refused before any work, in words of this product."""

from pathlib import Path
from typing import Any

import pytest

from foundation.data import DataError
from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from tests.foundation.data.tiny_files import pictures, write_folder

SMALL = {"num-clients": 2, "partition": "iid", "dataset": "folder", "validation-share": 0.0}


def checked(tmp_path: Path, size: tuple[int, int] = (8, 8), images: int = 20, **keys: Any) -> None:
    data = write_folder(tmp_path / "data", {name: pictures(images, size=size) for name in "ab"})
    values = {name.replace("_", "-"): value for name, value in keys.items()}
    settings = {"data-dir": str(data), "output-dir": str(tmp_path / "run"), **SMALL, **values}
    preflight.check(preflight.parse(settings), simulated=True)


@pytest.mark.parametrize("augmentation", ["crop-flip", "crop-flip-rotate"])
def test_images_too_small_to_crop(tmp_path: Path, augmentation: str) -> None:
    with pytest.raises(
        DataError, match="needs larger ones than 3x3: take 'none', or an image-size"
    ):
        checked(tmp_path, (3, 3), augmentation=augmentation)
    checked(tmp_path, (3, 3), augmentation="none")


def test_batches_of_one_image(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="batch-size = 1: model 'resnet8' has BatchNorm"):
        checked(tmp_path, batch_size=1)
    checked(tmp_path, batch_size=1, model="cnn")


def test_clients_with_one_image(tmp_path: Path) -> None:
    few: dict[str, Any] = {"images": 5, "num_clients": 5, "min_partition_size": 1}
    with pytest.raises(ConfigurationError, match=r"2 clients would have fewer .*first is client 3"):
        checked(tmp_path, **few)
    checked(tmp_path, **few, model="cnn")
    checked(tmp_path, **few, strategy="centralized")


def test_a_site_with_one_image_is_named(tmp_path: Path) -> None:
    """No key about partitions divides what lies in folders of sites."""
    for site, images in (("north", 12), ("tiny", 1)):
        write_folder(
            tmp_path / "sites" / site, {name: pictures(images) for name in "ab"[: min(images, 2)]}
        )
    write_folder(tmp_path / "sites" / "server" / "test", {name: pictures(3) for name in "ab"})
    settings = {
        "dataset": "folder",
        "data-dir": str(tmp_path / "sites"),
        "partition": "folders",
        "output-dir": str(tmp_path / "run"),
    }
    with pytest.raises(ConfigurationError, match="site tiny has 1 image to train on") as said:
        preflight.check(preflight.parse(settings), simulated=True)
    assert "min-partition-size" not in str(said.value)
    preflight.check(preflight.parse({**settings, "model": "cnn"}), simulated=True)


@pytest.mark.parametrize(("evaluation", "told"), [("clients", 1), ("both", 0), ("auto", 0)])
def test_test_images_that_nobody_uses_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluation: str, told: int
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(preflight, "warn_once", seen.append)
    for split in ("train", "test"):
        write_folder(tmp_path / "data" / split, {name: pictures(20) for name in "ab"})
    settings = {**SMALL, "data-dir": str(tmp_path / "data"), "output-dir": str(tmp_path / "run")}
    settings.update({"evaluation": evaluation, "validation-share": 0.2})
    preflight.check(preflight.parse(settings), simulated=True)
    assert len(seen) == told


def test_an_output_directory_that_no_model_can_be_saved_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'.*caf\\xe9': the name is not UTF-8"):
        checked(tmp_path, output_dir=f"{tmp_path}/caf\udce9")
