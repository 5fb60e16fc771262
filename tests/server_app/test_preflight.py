"""What clients could not train on is refused before any work, in words of this product."""

from __future__ import annotations

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
