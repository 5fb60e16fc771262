"""Which pseudo images a picture shows, and that it shows them as they are."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from safetensors.numpy import save_file

from fedf2dg.report.pseudo_images import (
    PseudoDataError,
    pseudo_grid,
    read_grid,
    stored_sets,
)

WriteRun = Callable[..., Path]


def store(
    directory: Path,
    images: np.ndarray,
    labels: Sequence[int],
    sources: Sequence[int],
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    name: str = "common-c0-b0",
) -> Path:
    """Store pseudo images as a run does."""
    tensors = {"images": np.asarray(images, np.float32), "labels": np.array(labels)}
    metadata = {"normalization": json.dumps({"mean": list(mean), "std": list(std)})}
    (directory / "pseudo_data").mkdir(exist_ok=True)
    save_file(
        {**tensors, "sources": np.array(sources)},
        directory / "pseudo_data" / f"{name}.safetensors",
        metadata=metadata,
    )
    return directory


def store_made(directory: Path, clients: int, classes: int, channels: int = 3, rare: int = -1):
    """Store two images for each client and class; the first ones encode both in their pixels.

    Only the first client has the class ``rare``.
    """
    labels, sources = (grid.ravel() for grid in np.meshgrid(range(classes), range(clients)))
    there = (labels != rare) | (sources == 0)
    labels, sources = labels[there], sources[there]
    shape = (len(labels), channels, 4, 4)
    first = (0.5 * labels / classes + 0.4 * sources / clients)[:, None, None, None]
    images = np.concatenate([np.broadcast_to(first, shape), np.ones(shape)])
    mean, std = [0.2, 0.3, 0.4][:channels], [0.5, 0.6, 0.7][:channels]
    normalised = (images - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    return store(directory, normalised, np.tile(labels, 2), np.tile(sources, 2), mean, std)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_first_image_of_each_pair_is_shown_denormalised(tmp_path: Path, channels: int) -> None:
    grid = read_grid(store_made(tmp_path, 3, 4, channels))
    assert grid.tiles.shape == (3, 4, 4, 4, 3)
    for client in range(3):
        for label in range(4):
            expected = 0.5 * label / 4 + 0.4 * client / 3
            np.testing.assert_allclose(grid.tiles[client, label], expected, atol=1e-6)
    assert "Shown" not in grid.note


def test_values_out_of_range_are_cut_and_no_numbers_are_black(tmp_path: Path) -> None:
    cut = read_grid(store(tmp_path, np.linspace(-3, 5, 16).reshape(1, 1, 4, 4), [0], [0]))
    assert cut.tiles.min() == 0 and cut.tiles.max() == 1
    assert np.unique(cut.tiles).size < 16
    broken = read_grid(store(tmp_path, np.full((1, 1, 2, 2), np.nan), [0], [0]))
    assert (broken.tiles == 0).all()


def test_large_grids_leave_out_rows_and_columns_and_say_so(tmp_path: Path) -> None:
    grid = read_grid(store_made(tmp_path, 20, 15, rare=0))
    assert grid.clients == tuple(range(12))
    assert grid.classes == tuple(range(1, 13))  # class 0, which one client made, gives way
    assert "12 of 20 clients and 12 of 15 classes" in grid.note


def test_cells_without_images_stay_empty_and_files_are_joined(tmp_path: Path) -> None:
    for batch, (label, client, value) in enumerate([(0, 0, 0.0), (1, 1, 1.0), (0, 0, 2.0)]):
        image = np.full((1, 1, 2, 2), value)
        store(tmp_path, image, [label], [client], [0.5], [0.25], f"common-c0-b{batch}")
    grid = read_grid(tmp_path)
    np.testing.assert_allclose(grid.tiles[0, 0], 0.5)
    np.testing.assert_allclose(grid.tiles[1, 1], 0.75)
    assert np.isnan(grid.tiles[0, 1]).all() and np.isnan(grid.tiles[1, 0]).all()


def test_stored_sets_are_in_the_order_of_making(tmp_path: Path) -> None:
    (tmp_path / "pseudo_data").mkdir()
    for name in ("hard-c10-b0", "hard-c2-b0", "common-c0-b10", "common-c0-b2", "notes"):
        (tmp_path / "pseudo_data" / f"{name}.safetensors").touch()
    assert list(stored_sets(tmp_path)) == [("common", 0), ("hard", 2), ("hard", 10)]


def test_the_picture_of_a_run_is_written(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", stop_after="distillation", rounds=1, epochs=1)
    path = pseudo_grid(run)
    assert path == run / "pseudo_data" / "grid.png"
    picture = imread(path)
    assert picture.shape[0] > 500 and picture.shape[1] > 500
    assert picture.std() > 0.1
    assert pseudo_grid(store_made(tmp_path, 2, 2), class_names=["$a$"]).is_file()


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    with pytest.raises(PseudoDataError, match="no pseudo data"):
        pseudo_grid(tmp_path)
    folder = tmp_path / "pseudo_data"
    folder.mkdir()
    file = folder / "common-c0-b0.safetensors"
    file.write_bytes(b"not a tensor")
    with pytest.raises(PseudoDataError, match="could not be read"):
        read_grid(tmp_path)
    one = np.zeros(1, np.int64)
    save_file({"images": np.zeros((1, 1, 2, 2)), "labels": one, "sources": one}, file)
    with pytest.raises(PseudoDataError, match="mean and std"):
        read_grid(tmp_path)
    with pytest.raises(PseudoDataError, match="no hard images"):
        read_grid(tmp_path, "hard", 1)
