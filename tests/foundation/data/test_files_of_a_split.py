"""Which files of a folder are a split, and what each of them calls its classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundation.data import DataError, DataSet, site_data
from tests.foundation.data.tiny_files import encode, pictures, write_folder, write_parquet


def loaded_names(data_set: DataSet, split: str = "train") -> list[str]:
    data = data_set.load(split)
    return [data.class_names[label] for label in data.labels]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_each_file_is_read_by_its_own_names(tmp_path: Path, order: Sequence[str]) -> None:
    lists = {"a": ["cat", "dog", "fox"], "b": ["dog", "fox"]}
    for place, which in enumerate(order):
        labels = range(len(lists[which]))
        images = pictures(len(lists[which]))
        write_parquet(tmp_path / f"train-{place}.parquet", images, labels, names=lists[which])
    data_set = DataSet("parquet", str(tmp_path))
    assert loaded_names(data_set) == [name for which in order for name in lists[which]]
    assert data_set.describe().class_names == ("cat", "dog", "fox")


def test_lists_of_which_none_has_all_are_brought_together(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-1.parquet", pictures(2), [0, 1], names=["owl", "cat"])
    write_parquet(tmp_path / "train-2.parquet", pictures(2), ["dog", "cat"])
    write_parquet(tmp_path / "test.parquet", pictures(2), [1, 0], names=["dog", "owl"])
    data_set = DataSet("parquet", str(tmp_path))
    assert loaded_names(data_set) == ["owl", "cat", "dog", "cat"]
    assert loaded_names(data_set, "test") == ["owl", "dog"]


def test_numbers_without_names_mean_the_one_list_there_is(
    tmp_path: Path, warnings_seen: list[str]
) -> None:
    write_parquet(tmp_path / "train-1.parquet", pictures(2), [0, 1], names=["owl", "cat"])
    write_parquet(tmp_path / "train-2.parquet", pictures(2), [1, 0])
    assert loaded_names(DataSet("parquet", str(tmp_path))) == ["owl", "cat", "cat", "owl"]
    (warning,) = [said for said in warnings_seen if "no names" in said]
    assert "train-2.parquet has numbers" in warning and "0 is read as 'owl'" in warning
    assert "train-1.parquet" in warning


def test_numbers_that_nobody_explains_are_refused(tmp_path: Path) -> None:
    """Classes called 0, 1, cat and dog would be trained on without a word."""
    write_parquet(tmp_path / "train.parquet", pictures(2), ["cat", "dog"])
    write_parquet(tmp_path / "test.parquet", pictures(2), [0, 1])
    with pytest.raises(DataError, match=r"test\.parquet has numbers .*train\.parquet.* names"):
        DataSet("parquet", str(tmp_path)).describe()
    write_parquet(tmp_path / "train.parquet", pictures(2), [0, 1], names=["cat", "dog"])
    write_parquet(tmp_path / "train-2.parquet", pictures(2), [0, 1], names=["dog", "cat"])
    write_parquet(tmp_path / "train-1.parquet", pictures(2), [0, 1], names=["cat", "dog"])
    (tmp_path / "train.parquet").unlink()
    with pytest.raises(DataError, match=r"test\.parquet has numbers .* no names"):
        DataSet("parquet", str(tmp_path)).describe()


def test_a_class_named_twice_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "site.parquet", pictures(3), [0, 1, 2], names=["a", "b", "a"])
    with pytest.raises(DataError, match="two classes 'a'"):
        site_data(path)


# Shards and what lies beside them.


def shard(root: Path, number: int, count: int, stem: str = "train") -> None:
    path = root / f"{stem}-{number:05d}-of-{count:05d}.parquet"
    write_parquet(path, pictures(number + 2)[:2], ["a", "b"])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shard(tmp_path, 0, 3)
    shard(tmp_path, 2, 3)
    with pytest.raises(DataError, match="2 of the 3 shards of train, without 00001"):
        DataSet("parquet", str(tmp_path)).describe()
    shard(tmp_path, 1, 3)
    assert len(DataSet("parquet", str(tmp_path)).load("train")) == 6


def test_a_gap_among_numbered_files_is_told(tmp_path: Path, warnings_seen: list[str]) -> None:
    for number in (0, 2):
        write_parquet(tmp_path / f"train-{number}.parquet", pictures(number + 2)[:2], ["a", "b"])
    assert len(DataSet("parquet", str(tmp_path)).load("train")) == 4
    assert "the numbers of the files of train have a gap: [0, 2]" in warnings_seen[0]


def test_shards_of_two_uploads_are_refused(tmp_path: Path) -> None:
    shard(tmp_path, 0, 1)
    for number in range(2):
        shard(tmp_path, number, 2)
    with pytest.raises(DataError, match=r"several uploads of train .*-of-00001.*-of-00002"):
        DataSet("parquet", str(tmp_path)).describe()


def test_a_whole_file_beside_shards_is_refused(tmp_path: Path) -> None:
    shard(tmp_path, 0, 1)
    write_parquet(tmp_path / "train.parquet", pictures(2), ["a", "b"])
    with pytest.raises(DataError, match=r"holds train twice .*train\.parquet, train-00000"):
        DataSet("parquet", str(tmp_path)).describe()


@pytest.mark.parametrize("whole", [True, False])
def test_a_backup_is_left_out_and_named(
    tmp_path: Path, warnings_seen: list[str], whole: bool
) -> None:
    if whole:
        write_parquet(tmp_path / "train.parquet", pictures(2), ["a", "b"])
    else:
        shard(tmp_path, 0, 1)
    write_parquet(tmp_path / "train-backup.parquet", pictures(2), ["a", "b"])
    assert len(DataSet("parquet", str(tmp_path)).load("train")) == 2
    [warning] = warnings_seen
    assert "train-backup.parquet" in warning


def test_a_split_in_another_folder_is_not_ignored(tmp_path: Path) -> None:
    for place, stem in (("a", "train"), ("b", "test")):
        write_parquet(tmp_path / place / f"{stem}.parquet", pictures(2), ["x", "y"])
    with pytest.raises(DataError, match=r"several folders \(a/train\.parquet, b/test\.parquet\)"):
        DataSet("parquet", str(tmp_path)).describe()


@pytest.mark.parametrize("place", ["", "default"])
def test_the_layout_of_the_hub_is_read(
    tmp_path: Path, place: str, warnings_seen: list[str]
) -> None:
    """As the hub converts a data set to parquet: a folder for each split, files by their number."""
    for split in ("train", "test", "validation"):
        for number in range(3):
            path = tmp_path / place / split / f"{number:04d}.parquet"
            write_parquet(path, pictures(number + 2)[:2], ["x", "y"])
    write_parquet(tmp_path / place / "train" / "backup.parquet", pictures(2), ["x", "y"])
    data_set = DataSet("parquet", str(tmp_path))
    assert [len(data_set.load(split)) for split in ("train", "test")] == [6, 6]
    assert len(site_data(tmp_path)) == 6
    (warning,) = [said for said in warnings_seen if "not read" in said]
    assert "train/backup.parquet" in warning and "validation/0000.parquet" in warning


def test_a_gap_in_the_layout_of_the_hub_is_told(tmp_path: Path, warnings_seen: list[str]) -> None:
    for number in (0, 2):
        path = tmp_path / "train" / f"{number:04d}.parquet"
        write_parquet(path, pictures(number + 2)[:2], ["x", "y"])
    assert len(DataSet("parquet", str(tmp_path)).load("train")) == 4
    assert "the numbers of the files of train have a gap: [0, 2]" in warnings_seen[0]


def test_what_lies_in_other_folders_is_named(tmp_path: Path, warnings_seen: list[str]) -> None:
    write_parquet(tmp_path / "TRAIN.Parquet", pictures(2), ["x", "y"])
    write_parquet(tmp_path / "old" / "test.parquet", pictures(2), ["x", "y"])
    write_folder(tmp_path, {"pictures": pictures(2)})
    data_set = DataSet("parquet", str(tmp_path))
    assert len(data_set.load("train")) == 2 and not data_set.has("test")
    [warning] = warnings_seen
    assert "old/test.parquet" in warning and "pictures" in warning


def test_a_missing_picture_of_a_table_is_named(tmp_path: Path) -> None:
    rows = [{"bytes": None, "path": f"{name}.png"} for name in "ab"]
    pq.write_table(pa.table({"image": rows, "label": ["x", "y"]}), tmp_path / "train.parquet")
    (tmp_path / "a.png").write_bytes(encode(pictures(1)[0]))
    with pytest.raises(DataError, match=r"row 1: there is no file .*b\.png"):
        DataSet("parquet", str(tmp_path)).load("train")


def test_a_picture_that_a_table_names_is_read_again_when_it_changes(tmp_path: Path) -> None:
    rows = [{"bytes": None, "path": f"{name}.png"} for name in "ab"]
    pq.write_table(pa.table({"image": rows, "label": ["x", "y"]}), tmp_path / "train.parquet")
    old, new = pictures(2), pictures(5)
    for images in (old, new):
        for name, image in zip("ab", images, strict=False):
            (tmp_path / f"{name}.png").write_bytes(encode(image))
        data = site_data(tmp_path)
        np.testing.assert_array_equal(data.images[0].transpose(1, 2, 0), images[0])
