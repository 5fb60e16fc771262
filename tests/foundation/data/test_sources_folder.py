import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foundation.data import DataError, DataSet
from tests.foundation.data.tiny_files import encode, pictures, write_folder

SPLITS = ("train", "test")


def two_splits(root: Path) -> Path:
    write_folder(root / "train", {"owl": pictures(3), "cat": pictures(5)})
    write_folder(root / "test", {"owl": pictures(2), "cat": pictures(1)})
    return root


def test_train_and_test_folders(tmp_path: Path) -> None:
    description = DataSet("folder", str(two_splits(tmp_path))).describe()
    assert description.class_names == ("cat", "owl")
    assert (description.channels, description.image_size) == (3, (8, 6))
    train, test = (DataSet("folder", str(tmp_path)).load(split) for split in ("train", "test"))
    assert train.label_counts().tolist() == [5, 3]
    assert test.label_counts().tolist() == [1, 2]
    np.testing.assert_array_equal(train.images[5:], pictures(3).transpose(0, 3, 1, 2))


def test_without_a_test_folder_a_fifth_of_each_class_is_held_out(
    tmp_path: Path, forget: Callable[[], None]
) -> None:
    write_folder(
        tmp_path, {"a": pictures(20, 1), "b": pictures(10, 1), "c": pictures(1, channels=1)}
    )
    train, test = (DataSet("folder", str(tmp_path)).load(split) for split in ("train", "test"))
    assert train.channels == 1
    assert train.label_counts().tolist() == [16, 8, 1]
    assert test.label_counts().tolist() == [4, 2, 0]
    both = {image.tobytes() for image in (*train.images, *test.images)}
    assert len(both) == 31
    forget()
    np.testing.assert_array_equal(DataSet("folder", str(tmp_path)).load("test").images, test.images)


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
    description = DataSet("folder", str(tmp_path)).describe()
    train, test = (DataSet("folder", str(tmp_path)).load(split) for split in ("train", "test"))
    assert description.class_names == ("a", "b")
    assert (train.label_counts() + test.label_counts()).tolist() == [3, 3]


def test_given_class_names_number_the_folders(tmp_path: Path) -> None:
    names = ("ant", "cat", "dog", "owl")
    data = DataSet("folder", str(two_splits(tmp_path)), class_names=names).load("train")
    assert data.label_counts().tolist() == [0, 5, 0, 3]
    with pytest.raises(DataError, match="class folder 'owl', which is not one of the classes ant"):
        DataSet("folder", str(tmp_path), class_names=("ant", "cat")).load("train")


def test_images_are_decoded_once(
    tmp_path: Path, decodes: list[str], forget: Callable[[], None]
) -> None:
    two_splits(tmp_path)
    for _ in range(3):
        DataSet("folder", str(tmp_path)).load("train")
        DataSet("folder", str(tmp_path)).load("test")
        forget()
    assert len(decodes) == len(set(decodes)) == 11


def test_palette_and_transparent_images_are_colour(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": pictures(3), "b": pictures(1)})
    Image.fromarray(pictures(1)[0]).convert("RGBA").save(tmp_path / "a" / "alpha.png")
    Image.fromarray(pictures(1)[0]).quantize(16).save(tmp_path / "a" / "palette.png")
    assert DataSet("folder", str(tmp_path)).describe().channels == 3
    train, test = (DataSet("folder", str(tmp_path)).load(split) for split in ("train", "test"))
    assert len(train) + len(test) == 6


# Bad data.


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    write_folder(two_splits(tmp_path) / "train", {"cat": [b"broken"]})
    with pytest.raises(DataError, match=r"train/cat/000.png is not a readable image"):
        DataSet("folder", str(tmp_path)).load("train")


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    whole = encode(pictures(1, size=(40, 40))[0])
    write_folder(tmp_path / "train", {"cat": [whole, whole[:-600]], "owl": [whole]})
    with pytest.raises(DataError, match=r"train/cat/001.png is not a readable image"):
        DataSet("folder", str(tmp_path)).load("train")


def test_two_sizes_are_named_with_their_files(tmp_path: Path) -> None:
    write_folder(two_splits(tmp_path) / "train", {"cat": pictures(1, size=(7, 6))})
    with pytest.raises(
        DataError, match=r"cat/001.png is 8x6 pixels, .*cat/000.png is 7x6.*image-size=64"
    ):
        DataSet("folder", str(tmp_path)).describe()


def test_grey_among_colour_is_a_warning(tmp_path: Path, warnings_seen: list[str]) -> None:
    write_folder(two_splits(tmp_path) / "train", {"cat": pictures(1, channels=1)})
    assert DataSet("folder", str(tmp_path)).load("train").channels == 3
    assert "cat/000.png" in warnings_seen[0] and "used as RGB" in warnings_seen[0]


def test_an_empty_class_folder_is_a_warning(tmp_path: Path, warnings_seen: list[str]) -> None:
    two_splits(tmp_path)
    (tmp_path / "train" / "elk").mkdir()
    data = DataSet("folder", str(tmp_path)).load("train")
    assert data.class_names == ("cat", "elk", "owl")
    assert data.label_counts().tolist() == [5, 0, 3]
    assert warnings_seen == ["data set 'folder': no training image of class elk"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no class folders"):
        DataSet("folder", str(tmp_path)).describe()
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image"):
        DataSet("folder", str(tmp_path)).describe()


@pytest.mark.skipif(os.name != "posix", reason="no POSIX permissions")
def test_decoded_images_of_ones_own_are_closed_to_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FEDF2DG_CACHE", str(cache))
    DataSet("folder", str(two_splits(tmp_path / "images"))).load("train")
    entries = [path for path in cache.iterdir() if path.is_dir()]
    assert entries
    assert {path.stat().st_mode & 0o077 for path in entries} == {0}


# What people's folders look like.


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training", "testing"),
        ("Train", "Test"),
        ("TRAINING", "Validation"),
        ("train", "validation"),
        ("train", "val"),
    ],
)
def test_the_usual_names_of_splits_are_known_in_any_case(
    tmp_path: Path, train: str, test: str
) -> None:
    write_folder(tmp_path / train, {"owl": pictures(3), "cat": pictures(5)})
    write_folder(tmp_path / test, {"owl": pictures(2), "cat": pictures(1)})
    assert DataSet("folder", str(tmp_path)).describe().class_names == ("cat", "owl")
    counts = {s: DataSet("folder", str(tmp_path)).load(s).label_counts().tolist() for s in SPLITS}
    assert counts == {"train": [5, 3], "test": [1, 2]}


def test_systems_and_hidden_folders_are_no_classes_and_hold_no_images(
    tmp_path: Path, warnings_seen: list[str]
) -> None:
    write_folder(tmp_path, {"a": pictures(5), "b": pictures(5)})
    for name in ("__MACOSX", "@eaDir", "lost+found", ".ipynb_checkpoints"):
        write_folder(tmp_path, {name: pictures(2), f"a/{name}": pictures(2)})
    (tmp_path / "b" / "Thumbs.db").write_bytes(b"")
    assert DataSet("folder", str(tmp_path)).describe().class_names == ("a", "b")
    assert sum(len(DataSet("folder", str(tmp_path)).load(split)) for split in SPLITS) == 10
    (warning,) = warnings_seen
    assert (
        "folders that are hidden or a system's: 8 (.ipynb_checkpoints, @eaDir, __MACOSX, …)"
        in warning
    )
    assert "files that are hidden or a system's: 1 (b/Thumbs.db)" in warning


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path, warnings_seen: list[str]) -> None:
    two_splits(tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / "owl" / "moving.gif").write_bytes(b"")
    (tmp_path / "train" / "owl" / "still.gif").write_bytes(b"")
    (tmp_path / "train" / "owl" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    write_folder(tmp_path, {"unsorted": pictures(1)})
    (tmp_path / "train" / "elk").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    for place in (tmp_path, tmp_path / "test"):
        (place / "stray.png").write_bytes(encode(pictures(1)[0]))
    (tmp_path / "README").write_text("")
    DataSet("folder", str(tmp_path)).load("train")
    (warning,) = warnings_seen
    for said in (
        ".gif files: 2 (train/owl/moving.gif, train/owl/still.gif)",
        ".txt files: 1 (train/cat/notes.txt)",
        "links that lead nowhere: 2 (train/elk, train/owl/gone.png)",
        "images outside the folders: 2 (stray.png, test/stray.png)",
        "files without a suffix: 1 (README)",
        "folders beside train and test: 1 (unsorted)",
    ):
        assert said in warning


def test_links_to_folders_and_files_are_followed_and_circles_end(tmp_path: Path) -> None:
    elsewhere = write_folder(tmp_path / "elsewhere", {"more": pictures(4)})
    data = write_folder(tmp_path / "data", {"a": pictures(2), "b": pictures(3)})
    (data / "a" / "linked").symlink_to(elsewhere / "more", target_is_directory=True)
    (data / "a" / "one.png").symlink_to(elsewhere / "more" / "000.png")
    (data / "b" / "up").symlink_to(data / "b", target_is_directory=True)
    both = [DataSet("folder", str(data)).load(split).label_counts() for split in SPLITS]
    assert sum(both).tolist() == [2 + 4 + 1, 3]


def test_a_class_of_another_kind_of_files_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": pictures(2), "b": pictures(2), "c": []})
    (tmp_path / "c" / "x.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"/c holds no image of a kind .* but \.gif files: 1"):
        DataSet("folder", str(tmp_path)).describe()


def test_one_class_is_refused_with_the_folder_that_was_meant(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "above" / "data", {"a": pictures(2), "b": pictures(2)})
    with pytest.raises(DataError, match=f"one folder above the data: .*data-dir={data}"):
        DataSet("folder", str(tmp_path / "above")).describe()
    with pytest.raises(DataError, match=f"holds images itself, .*its parent, {data}"):
        DataSet("folder", str(data / "a")).describe()
    beside = write_folder(tmp_path / "beside", {"images/a": pictures(2), "images/b": pictures(2)})
    (beside / "labels").mkdir()
    with pytest.raises(DataError, match=f"one folder above the data: .*data-dir={beside}/images"):
        DataSet("folder", str(beside)).describe()
    split = two_splits(tmp_path / "higher" / "split")
    with pytest.raises(DataError, match=f"one folder above the data: .*data-dir={split}"):
        DataSet("folder", str(split.parent)).describe()
    alone = write_folder(tmp_path / "alone", {"a": pictures(2)})
    with pytest.raises(DataError, match="single class 'a': it needs two"):
        DataSet("folder", str(alone)).describe()


def test_folders_that_seem_to_be_splits_are_no_classes(tmp_path: Path) -> None:
    flat = write_folder(tmp_path / "flat", {"my-train": pictures(5), "test2": pictures(5)})
    deep = {f"{split}_images/{name}": pictures(5) for split in SPLITS for name in "ab"}
    for place in (flat, write_folder(tmp_path / "deep", deep)):
        with pytest.raises(DataError, match=r"seems to be for t.*, not a class: call it t"):
            DataSet("folder", str(place)).describe()
    given = DataSet("folder", str(flat), class_names=("my-train", "test2")).describe()
    assert given.class_names == ("my-train", "test2")
    write_folder(tmp_path / "other", {"trainer": pictures(5), "contest": pictures(5)})
    assert DataSet("folder", str(tmp_path / "other")).describe().class_names == (
        "contest",
        "trainer",
    )


def test_a_class_may_be_called_train_if_the_user_says_so(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": pictures(5), "boat": pictures(5)})
    with pytest.raises(DataError, match=r"called train or test needs class-names"):
        DataSet("folder", str(tmp_path)).describe()
    names = ("boat", "train")
    assert DataSet("folder", str(tmp_path), class_names=names).describe().class_names == names
    data = DataSet("folder", str(tmp_path), class_names=names).load("train")
    assert data.label_counts().tolist() == [4, 4]


def test_another_file_of_equal_size_and_age_is_read_anew(
    tmp_path: Path, forget: Callable[[], None]
) -> None:
    two_splits(tmp_path)
    path = tmp_path / "train" / "cat" / "000.png"
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(path, format="BMP")
    before = DataSet("folder", str(tmp_path)).load("train").images[0].copy()
    status = path.stat()
    other = tmp_path / "other"
    Image.fromarray(np.full((8, 6, 3), 255, np.uint8)).save(other, format="BMP")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    forget()
    after = DataSet("folder", str(tmp_path)).load("train").images[0]
    assert (before == 0).all() and (after == 255).all()


# Pictures as a viewer shows them.


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": pictures(1), "b": pictures(1)})
    clear = np.zeros((8, 6, 4), np.uint8)
    clear[0, 0] = (200, 10, 30, 255)
    Image.fromarray(clear, "RGBA").save(tmp_path / "train" / "a" / "rgba.png")
    image = DataSet("folder", str(tmp_path)).load("train").images[1]
    assert image[:, 0, 0].tolist() == [200, 10, 30]
    assert (image[:, 1:] == 255).all()


def test_transparent_grey_stays_grey(tmp_path: Path) -> None:
    half = np.full((8, 6, 2), (100, 0), np.uint8)
    half[0, 0] = (100, 255)
    write_folder(tmp_path / "train", {"a": [], "b": pictures(1, channels=1)})
    Image.fromarray(half, "LA").save(tmp_path / "train" / "a" / "la.png")
    image = DataSet("folder", str(tmp_path)).load("train").images[0]
    assert image.shape == (1, 8, 6)
    assert image[0, 0, 0] == 100 and (image[0, 1:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(tmp_path: Path, orientation: int) -> None:
    """A camera held otherwise stores the picture turned, and how in EXIF: all look the same."""
    upright = Image.fromarray(pictures(1)[0])
    stored = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    write_folder(tmp_path / "train", {"a": [], "b": pictures(1)})
    stored.save(tmp_path / "train" / "a" / "photo.png", exif=exif)
    image = DataSet("folder", str(tmp_path)).load("train").images[0]
    np.testing.assert_array_equal(image.transpose(1, 2, 0), np.asarray(upright))
