"""Hub data sets, from tiny tables in the hub's schema: nothing is downloaded here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from foundation.data import DataError, DataSet
from tests.foundation.data.tiny_files import encode, pictures, write_parquet

SCHEMAS = {
    "cifar10": ("uoft-cs/cifar10", None, "img", "label", "test", (32, 32, 3), 10),
    "cifar100": ("uoft-cs/cifar100", None, "img", "fine_label", "test", (32, 32, 3), 100),
    "svhn": ("ufldl-stanford/svhn", "cropped_digits", "image", "label", "test", (32, 32, 3), 10),
    "mnist": ("ylecun/mnist", None, "image", "label", "test", (28, 28, 1), 10),
    "fmnist": ("zalando-datasets/fashion_mnist", None, "image", "label", "test", (28, 28, 1), 10),
    "tiny-imagenet": ("zh-plus/tiny-imagenet", None, "image", "label", "valid", (64, 64, 3), 200),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Stand in for the hub; every request is noted."""
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path / "cache"))
    requests: list[tuple[Any, ...]] = []

    def load_dataset(hub_id: str, config: str | None, *, split: str) -> datasets.Dataset:
        requests.append((hub_id, config, split))
        (schema,) = (schema for schema in SCHEMAS.values() if schema[0] == hub_id)
        _, _, image, label, _, (height, width, channels), classes = schema
        features = datasets.Features(
            {
                image: datasets.Image(),
                label: datasets.ClassLabel(names=[f"c{i}" for i in range(classes)]),
            }
        )
        images = [
            {"bytes": encode(pixels), "path": None}
            for pixels in pictures(4 if split == "train" else 2, channels, (height, width))
        ]
        labels = [0, classes - 1, 1, 1][: len(images)]
        return datasets.Dataset.from_dict({image: images, label: labels}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return requests


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_set_is_read_in_its_own_schema(name: str, hub: list[tuple[Any, ...]]) -> None:
    hub_id, config, _, _, test_split, (height, width, channels), classes = SCHEMAS[name]
    description = DataSet(name).describe()
    assert hub == []
    assert (description.classes, description.channels) == (classes, channels)
    assert description.image_size == (height, width)
    assert description.normalization.channels == channels
    train, test = DataSet(name).load("train"), DataSet(name).load("test")
    assert hub == [(hub_id, config, "train"), (hub_id, config, test_split)]
    expected = pictures(4, channels, (height, width))
    expected = expected[:, None] if channels == 1 else expected.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(train.images, expected)
    assert train.labels.tolist() == [0, classes - 1, 1, 1]
    assert len(test) == 2
    assert train.class_names == description.class_names
    assert len(set(train.class_names)) == classes


def test_once_decoded_the_hub_is_not_asked_again(
    hub: list[tuple[Any, ...]], decodes: list[str], forget: Callable[[], None]
) -> None:
    for _ in range(3):
        DataSet("cifar10").load("train")
        forget()
    assert len(hub) == 1
    assert len(decodes) == 4


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_same_files_on_disk_are_used_instead(
    name: str, hub: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    _, config, image, label, test_split, (height, width, channels), classes = SCHEMAS[name]
    directory = tmp_path / "files" / (config or "data")
    size = (height, width)
    columns = {"image_column": image, "label_column": label}
    write_parquet(
        directory / "train-00000-of-00001.parquet",
        pictures(3, channels, size),
        [0, classes - 1, 1],
        names=[f"c{i}" for i in range(classes)],
        **columns,
    )
    write_parquet(
        directory / f"{test_split}-00000-of-00001.parquet",
        pictures(2, channels, size),
        [1, 0],
        **columns,
    )
    # SVHN's other configuration lies beside it in the hub's repository.
    write_parquet(tmp_path / "files" / "aaa" / "other.parquet", pictures(2), [0, 1])
    train = DataSet(name, str(tmp_path / "files")).load("train")
    assert train.labels.tolist() == [0, classes - 1, 1]
    assert train.class_names == DataSet(name).describe().class_names
    assert DataSet(name, str(tmp_path / "files")).load("test").labels.tolist() == [1, 0]
    assert hub == []


def test_grey_images_of_a_colour_set_become_colour(
    hub: list[tuple[Any, ...]], tmp_path: Path, warnings_seen: list[str]
) -> None:
    """Tiny-ImageNet holds some grey images; that is no news to its user."""
    grey = pictures(1, 1, (64, 64))[0]
    write_parquet(tmp_path / "train.parquet", [grey, pictures(1, 3, (64, 64))[0]], [0, 1])
    data = DataSet("tiny-imagenet", str(tmp_path)).load("train")
    np.testing.assert_array_equal(data.images[0], np.stack([grey] * 3))
    assert all("used as RGB" not in warning for warning in warnings_seen)


def test_without_network_the_message_says_what_to_put_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path / "cache"))

    def unreachable(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError) as refusal:
        DataSet("cifar100").load("train")
    message = str(refusal.value)
    assert "huggingface.co/datasets/uoft-cs/cifar100" in message
    assert "train.parquet" in message and "test.parquet" in message and "data-dir" in message
    assert "fine_label" in message
    assert "\n" not in message


def test_a_directory_without_the_files_is_named(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"holds no train.parquet .* leave data-dir empty"):
            DataSet("svhn", str(directory)).load("train")


def test_a_description_needs_no_files(tmp_path: Path) -> None:
    """The data directory is the server's; a site with its own data has none of that name."""
    assert DataSet("svhn", str(tmp_path / "nowhere")).describe() == DataSet("svhn").describe()


def test_files_of_another_set_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(2), [0, 1])
    with pytest.raises(DataError, match="no image column: expected one of img, found image"):
        DataSet("cifar10", str(tmp_path)).load("train")
    with pytest.raises(DataError, match=r"row 0 is 8x6 pixels, the data set is 28x28"):
        DataSet("mnist", str(tmp_path)).load("train")


def test_a_label_outside_the_set_is_named(
    hub: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(2, 1, (28, 28)), [0, 10])
    with pytest.raises(DataError, match=r"train.parquet row 1 has label '10', which is not"):
        DataSet("mnist", str(tmp_path)).load("train")
    # The hub's way of saying "no label".
    real = datasets.load_dataset

    def unlabelled(*arguments: Any, **options: Any) -> datasets.Dataset:
        table = real(*arguments, **options)
        return table.map(lambda row: {"label": -1})

    monkeypatch.setattr(datasets, "load_dataset", unlabelled)
    with pytest.raises(DataError, match=r"ylecun/mnist train row 0 has label -1, outside 0\.\.9"):
        DataSet("mnist").load("train")
