import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from federated_data import DataError, describe, load_split
from tests.federated_data.tiny_files import encode, pictures, write_folder


def two_splits(root: Path) -> Path:
    write_folder(root / "train", {"owl": pictures(3), "cat": pictures(5)})
    write_folder(root / "test", {"owl": pictures(2), "cat": pictures(1)})
    return root


def test_train_and_test_folders(tmp_path: Path) -> None:
    description = describe("folder", str(two_splits(tmp_path)))
    assert description.class_names == ("cat", "owl")
    assert (description.channels, description.image_size) == (3, (8, 6))
    train, test = (load_split("folder", split, str(tmp_path)) for split in ("train", "test"))
    assert train.label_counts().tolist() == [5, 3]
    assert test.label_counts().tolist() == [1, 2]
    np.testing.assert_array_equal(train.images[5:], pictures(3).transpose(0, 3, 1, 2))


def test_without_a_test_folder_a_fifth_of_each_class_is_held_out(
    tmp_path: Path, forget: Callable[[], None]
) -> None:
    write_folder(
        tmp_path, {"a": pictures(20, 1), "b": pictures(10, 1), "c": pictures(1, channels=1)}
    )
    train, test = (load_split("folder", split, str(tmp_path)) for split in ("train", "test"))
    assert train.channels == 1
    assert train.label_counts().tolist() == [16, 8, 1]
    assert test.label_counts().tolist() == [4, 2, 0]
    both = {image.tobytes() for image in (*train.images, *test.images)}
    assert len(both) == 31
    forget()
    np.testing.assert_array_equal(load_split("folder", "test", str(tmp_path)).images, test.images)


def test_formats_depth_and_case_do_not_matter_and_other_files_are_passed_over(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path, {"a": pictures(2), "b": pictures(2)})
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a" / "x.JPG", format="JPEG")
    (tmp_path / "b" / "deep").mkdir()
    Image.fromarray(pictures(1)[0]).save(tmp_path / "b" / "deep" / "y.bmp")
    (tmp_path / "b" / "notes.txt").write_text("not an image")
    (tmp_path / "b" / ".hidden.png").write_text("not an image")
    (tmp_path / ".git").mkdir()
    description = describe("folder", str(tmp_path))
    train, test = (load_split("folder", split, str(tmp_path)) for split in ("train", "test"))
    assert description.class_names == ("a", "b")
    assert (train.label_counts() + test.label_counts()).tolist() == [3, 3]


def test_given_class_names_number_the_folders(tmp_path: Path) -> None:
    names = ("ant", "cat", "dog", "owl")
    data = load_split("folder", "train", str(two_splits(tmp_path)), class_names=names)
    assert data.label_counts().tolist() == [0, 5, 0, 3]
    with pytest.raises(DataError, match="class folder 'owl', which is not one of the classes ant"):
        load_split("folder", "train", str(tmp_path), class_names=("ant", "cat"))


def test_images_are_decoded_once(
    tmp_path: Path, decodes: list[str], forget: Callable[[], None]
) -> None:
    two_splits(tmp_path)
    for _ in range(3):
        load_split("folder", "train", str(tmp_path))
        load_split("folder", "test", str(tmp_path))
        forget()
    assert len(decodes) == len(set(decodes)) == 11


def test_palette_and_transparent_images_are_colour(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": pictures(3)})
    Image.fromarray(pictures(1)[0]).convert("RGBA").save(tmp_path / "a" / "alpha.png")
    Image.fromarray(pictures(1)[0]).quantize(16).save(tmp_path / "a" / "palette.png")
    assert describe("folder", str(tmp_path)).channels == 3
    assert len(load_split("folder", "train", str(tmp_path))) == 4


# Bad data.


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    write_folder(two_splits(tmp_path) / "train", {"cat": [b"broken"]})
    with pytest.raises(DataError, match=r"train/cat/000.png is not a readable image"):
        load_split("folder", "train", str(tmp_path))


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    whole = encode(pictures(1, size=(40, 40))[0])
    write_folder(tmp_path / "train", {"cat": [whole, whole[:-600]]})
    with pytest.raises(DataError, match=r"train/cat/001.png is not a readable image"):
        load_split("folder", "train", str(tmp_path))


def test_two_sizes_are_named_with_their_files(tmp_path: Path) -> None:
    write_folder(two_splits(tmp_path) / "train", {"cat": pictures(1, size=(7, 6))})
    with pytest.raises(DataError, match=r"cat/001.png is 8x6 pixels, .*cat/000.png is 7x6.*resize"):
        describe("folder", str(tmp_path))


def test_grey_among_colour_is_a_warning(tmp_path: Path, warnings_seen: list[str]) -> None:
    write_folder(two_splits(tmp_path) / "train", {"cat": pictures(1, channels=1)})
    assert load_split("folder", "train", str(tmp_path)).channels == 3
    assert "cat/000.png" in warnings_seen[0] and "used as RGB" in warnings_seen[0]


def test_an_empty_class_folder_is_a_warning(tmp_path: Path, warnings_seen: list[str]) -> None:
    two_splits(tmp_path)
    (tmp_path / "train" / "elk").mkdir()
    data = load_split("folder", "train", str(tmp_path))
    assert data.class_names == ("cat", "elk", "owl")
    assert data.label_counts().tolist() == [5, 0, 3]
    assert warnings_seen == ["data set 'folder': no training image of class elk"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no class folders"):
        describe("folder", str(tmp_path))
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image"):
        describe("folder", str(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="no POSIX permissions")
def test_decoded_images_of_ones_own_are_closed_to_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FEDF2DG_CACHE", str(cache))
    load_split("folder", "train", str(two_splits(tmp_path / "images")))
    entries = [path for path in cache.iterdir() if path.is_dir()]
    assert entries
    assert {path.stat().st_mode & 0o077 for path in entries} == {0}
