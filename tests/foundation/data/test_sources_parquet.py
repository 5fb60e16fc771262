import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from foundation.data import DataError, DataSet, site_data
from foundation.data.decoding import decode_image
from foundation.errors import ConfigurationError
from tests.foundation.data.tiny_files import Pixels, encode, pictures, write_parquet


def chw(pixels: Pixels) -> Pixels:
    return pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("column", ["img", "image"])
def test_own_parquet_files_come_back_as_they_were(
    tmp_path: Path, channels: int, column: str
) -> None:
    train, test = pictures(7, channels), pictures(3, channels)
    write_parquet(tmp_path / "train.parquet", train, [0, 1, 2, 3, 0, 1, 2], image_column=column)
    write_parquet(tmp_path / "test.parquet", test, [3, 2, 1], image_column=column)
    description = DataSet("parquet", str(tmp_path)).describe()
    assert description.class_names == ("0", "1", "2", "3")
    assert (description.channels, description.image_size) == (channels, (8, 6))
    assert description.normalization.mean == (0.5,) * channels
    data = DataSet("parquet", str(tmp_path)).load("train")
    np.testing.assert_array_equal(data.images, chw(train))
    assert data.labels.tolist() == [0, 1, 2, 3, 0, 1, 2]
    held = DataSet("parquet", str(tmp_path)).load("test")
    np.testing.assert_array_equal(held.images, chw(test))


def test_shards_and_folders_as_the_hub_lays_them_out(tmp_path: Path) -> None:
    images = pictures(5)
    below = tmp_path / "plain_text"
    write_parquet(below / "train-00000-of-00002.parquet", images[:2], [0, 1])
    write_parquet(below / "train-00001-of-00002.parquet", images[2:], [1, 0, 2])
    data = DataSet("parquet", str(tmp_path)).load("train")
    np.testing.assert_array_equal(data.images, chw(images))
    assert data.labels.tolist() == [0, 1, 1, 0, 2]


def test_only_a_test_part_is_enough_for_a_description(tmp_path: Path) -> None:
    """A server of a real federation has no training images."""
    write_parquet(tmp_path / "test.parquet", pictures(3), [0, 1, 2])
    assert DataSet("parquet", str(tmp_path)).describe().classes == 3
    with pytest.raises(DataError, match="has no train split, only test"):
        DataSet("parquet", str(tmp_path)).load("train")


def test_class_names_are_those_of_the_datasets_library(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(3), [0, 1, 1], names=["cat", "dog", "owl"])
    assert DataSet("parquet", str(tmp_path)).describe().class_names == ("cat", "dog", "owl")


def test_given_class_names_number_a_files_own(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(3), [0, 1, 1], names=["dog", "owl"])
    names = ("ant", "dog", "elk", "owl")
    data = DataSet("parquet", str(tmp_path), class_names=names).load("train")
    assert data.class_names == names
    assert data.labels.tolist() == [1, 3, 3]
    with pytest.raises(DataError, match=r"row 1 has label 'owl', which is not one of .* ant, dog"):
        DataSet("parquet", str(tmp_path), class_names=("ant", "dog")).load("train")


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_labels_may_be_text(tmp_path: Path, kind: pa.DataType) -> None:
    labels = pa.array(["owl", "cat", "owl"])
    stored = labels.dictionary_encode() if pa.types.is_dictionary(kind) else labels.cast(kind)
    write_parquet(tmp_path / "train.parquet", pictures(3), stored)
    assert pq.read_schema(tmp_path / "train.parquet").field("label").type == kind
    data = DataSet("parquet", str(tmp_path)).load("train")
    assert data.class_names == ("cat", "owl")
    assert data.labels.tolist() == [1, 0, 1]


def test_images_may_be_plain_bytes_or_files_beside(tmp_path: Path) -> None:
    images = pictures(2)
    table = pa.table({"image": [encode(image) for image in images], "label": [0, 1]})
    pq.write_table(table, tmp_path / "train.parquet")
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    (tmp_path / "beside.png").write_bytes(encode(images[0]))
    table = pa.table(
        {"image": pa.array([{"bytes": None, "path": "beside.png"}], struct), "label": [0]}
    )
    pq.write_table(table, tmp_path / "test.parquet")
    train, test = (DataSet("parquet", str(tmp_path)).load(split) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images, chw(images))
    np.testing.assert_array_equal(test.images, chw(images[:1]))


def test_images_are_decoded_once_and_again_when_the_file_changes(
    tmp_path: Path, decodes: list[str], forget: Callable[[], None]
) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(6), [0, 1] * 3)
    for _ in range(3):
        DataSet("parquet", str(tmp_path)).load("train")
        DataSet("parquet", str(tmp_path)).describe()
        forget()
    assert len(decodes) == 6
    write_parquet(tmp_path / "train.parquet", pictures(4), [0, 1] * 2)
    assert len(DataSet("parquet", str(tmp_path)).load("train")) == 4
    assert len(decodes) == 10


# Bad data.


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    good = encode(pictures(1)[0])
    write_parquet(tmp_path / "train.parquet", [good, b"not an image", good], [0, 1, 0])
    with pytest.raises(DataError, match=r"train.parquet row 1 is not a readable image"):
        DataSet("parquet", str(tmp_path)).load("train")


def test_a_truncated_image_is_named_and_nothing_is_cached(tmp_path: Path) -> None:
    good = encode(pictures(1, size=(40, 40))[0], "JPEG")
    write_parquet(tmp_path / "train.parquet", [good, good, good[: len(good) // 2]], [0, 1, 0])
    for _ in range(2):
        with pytest.raises(DataError, match=r"row 2 is not a readable image .*truncated"):
            DataSet("parquet", str(tmp_path)).load("train")


def test_the_row_is_that_of_the_shard(tmp_path: Path) -> None:
    images = pictures(4)
    write_parquet(tmp_path / "train-0.parquet", images[:3], [0, 1, 1])
    write_parquet(tmp_path / "train-1.parquet", [images[3], b""], [0, 1])
    with pytest.raises(DataError, match=r"train-1.parquet row 1 is not a readable image"):
        DataSet("parquet", str(tmp_path)).load("train")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [pictures(1)[0], None], [0, 1])
    with pytest.raises(DataError, match=r"row 1 is not a readable image \(it is empty\)"):
        DataSet("parquet", str(tmp_path)).load("train")


def test_two_sizes_are_named_with_their_rows(tmp_path: Path) -> None:
    images = [*pictures(2), pictures(1, size=(9, 6))[0]]
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 0])
    with pytest.raises(DataError, match=r"row 2 is 9x6 pixels, .*row 0 is 8x6 .*resize") as error:
        DataSet("parquet", str(tmp_path)).describe()
    assert str(error.value).count("train.parquet") == 2


def test_sizes_may_not_differ_between_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(2), [0, 1])
    write_parquet(tmp_path / "test.parquet", pictures(2, size=(9, 6)), [0, 1])
    with pytest.raises(DataError, match=r"train: 8x6, test: 9x6"):
        DataSet("parquet", str(tmp_path)).describe()


def test_grey_and_colour_mixed_become_colour_with_a_warning(
    tmp_path: Path, warnings_seen: list[str], forget: Callable[[], None]
) -> None:
    grey = pictures(1, channels=1)[0]
    write_parquet(tmp_path / "train.parquet", [grey, pictures(1)[0]], [0, 1])
    data = DataSet("parquet", str(tmp_path)).load("train")
    np.testing.assert_array_equal(data.images[0], np.stack([grey] * 3))
    forget()
    DataSet("parquet", str(tmp_path)).load("train")
    warning, in_the_next_run = warnings_seen
    assert warning == in_the_next_run
    assert "row 0" in warning and "row 1" in warning and "used as RGB" in warning


def test_grey_of_sixteen_bits_is_scaled_by_its_whole_range(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 48).reshape(8, 6).round().astype(np.uint16)
    write_parquet(tmp_path / "train.parquet", [deep, deep[::-1].copy()], [0, 1])
    data = DataSet("parquet", str(tmp_path)).load("train")
    assert data.images.shape == (2, 1, 8, 6)
    np.testing.assert_array_equal(data.images[0, 0], np.rint(deep / 257))
    assert (data.images[0].min(), data.images[0].max()) == (0, 255)


def encoded_tiff(pixels: np.ndarray, mode: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "TIFF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("values", "mode", "message"),
    [
        (np.zeros((8, 6), np.float32), "F", "mode F: convert the images to 8 bits"),
        (np.full((8, 6), 70000, np.int32), "I", "pixels from 70000 to 70000, more than 16 bits"),
        (np.full((8, 6), -1, np.int32), "I", "pixels from -1 to -1, more than 16 bits"),
    ],
)
def test_pixels_without_a_scale_are_refused(values: np.ndarray, mode: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_image(encoded_tiff(values, mode), 1, "scan.tif")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1], "row 1 has label '-1', which is not one of the classes 0"),
        ([0, None], "row 1 has no label"),
        ([0.0, 1.5], "holds double: labels are integers or class names"),
    ],
)
def test_a_bad_label_is_named(tmp_path: Path, labels: list[object], message: str) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(2), labels)
    with pytest.raises(DataError, match=message):
        DataSet("parquet", str(tmp_path)).load("train")


def test_a_label_beyond_the_given_classes_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(2), [0, 2])
    with pytest.raises(DataError, match=r"row 1 has label 2, outside 0\.\.1 \(2 classes\)"):
        DataSet("parquet", str(tmp_path), class_names=("a", "b")).load("train")


def test_classes_that_one_split_lacks_are_named(tmp_path: Path, warnings_seen: list[str]) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(3), [0, 3, 1])
    write_parquet(tmp_path / "test.parquet", pictures(1), [2])
    data = DataSet("parquet", str(tmp_path)).load("train")
    assert data.label_counts().tolist() == [1, 1, 0, 1]
    assert warnings_seen == [
        "data set 'parquet': the test set alone has class 2: no model can learn it",
        "data set 'parquet': the test set lacks class 0, 1, 3: its accuracy says nothing of it",
    ]


def test_only_numbers_that_occur_are_classes(tmp_path: Path) -> None:
    """Dates and keys of another data base are no positions in a list of 20 million classes."""
    write_parquet(tmp_path / "train.parquet", pictures(4), [20240102, 100, 20240101, 100])
    data = DataSet("parquet", str(tmp_path)).load("train")
    assert data.class_names == ("100", "20240101", "20240102")
    assert data.labels.tolist() == [2, 0, 1, 0]


def test_a_site_that_misses_numbered_classes_agrees_on_them(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "site.parquet", pictures(3), [10, 2, 10])
    data = site_data(path, class_names=("1", "2", "10"))
    assert data.labels.tolist() == [2, 1, 2]
    with pytest.raises(DataError, match=r"row 0 has label '10', which is not one of .* 1, 2"):
        site_data(path, class_names=("1", "2"))


@pytest.mark.parametrize("labels", [list(range(300)), [f"photo-{i}" for i in range(300)]])
def test_a_column_that_names_images_is_no_label(tmp_path: Path, labels: list[object]) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(300), labels)
    with pytest.raises(DataError, match="300 different values for 300 images"):
        DataSet("parquet", str(tmp_path)).describe()


def test_tables_that_nobody_reads_are_named(tmp_path: Path, warnings_seen: list[str]) -> None:
    for name in ("train", "test", "validation", "more"):
        write_parquet(tmp_path / f"{name}.parquet", pictures(2), [0, 1])
    write_parquet(tmp_path / ".ipynb_checkpoints" / "train.parquet", pictures(2), [0, 1])
    DataSet("parquet", str(tmp_path)).describe()
    assert warnings_seen == [
        f"not read in {tmp_path}: parquet files beside those of the splits: 2 (more.parquet, "
        "validation.parquet)"
    ]


def test_a_hidden_folder_holds_no_tables(tmp_path: Path) -> None:
    write_parquet(tmp_path / ".cache" / "train.parquet", pictures(2), [0, 1])
    with pytest.raises(DataError, match=r"holds no train\.parquet"):
        DataSet("parquet", str(tmp_path)).describe()


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(3), [7, 7, 7])
    with pytest.raises(DataError, match="all labels are '7': two classes are needed"):
        DataSet("parquet", str(tmp_path)).describe()


def test_what_is_not_there_is_named(tmp_path: Path, forget: Callable[[], None]) -> None:
    with pytest.raises(DataError, match="needs data-dir"):
        DataSet("parquet").describe()
    with pytest.raises(DataError, match="nowhere is not a directory"):
        DataSet("parquet", str(tmp_path / "nowhere")).describe()
    with pytest.raises(DataError, match=r"holds no train\.parquet or test\.parquet"):
        DataSet("parquet", str(tmp_path)).describe()
    (tmp_path / "train.parquet").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"train\.parquet is not a readable parquet file"):
        DataSet("parquet", str(tmp_path)).describe()
    forget()
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no image column: expected one of img, image, found pict"):
        DataSet("parquet", str(tmp_path)).describe()
    pq.write_table(pa.table({"image": [b""], "kind": [0]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no label column: expected one of label, fine_label"):
        DataSet("parquet", str(tmp_path)).describe()
    write_parquet(tmp_path / "train.parquet", [], pa.array([], pa.int64()))
    with pytest.raises(DataError, match="holds no image"):
        DataSet("parquet", str(tmp_path)).describe()


def test_names_are_checked() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown dataset 'cifar'.*'cifar10'"):
        DataSet("cifar").describe()
    with pytest.raises(DataError, match="class names are part of data set 'digits'"):
        DataSet("digits", class_names=("a",)).describe()
