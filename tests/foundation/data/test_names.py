"""Class names that look the same are the same, wherever they come from."""

import unicodedata
from pathlib import Path

import pytest

from foundation.data import DataError, DataSet, site_data
from foundation.data.agreement import announced
from foundation.data.names import in_order
from tests.foundation.data.tiny_files import pictures, write_folder, write_parquet

COMPOSED = unicodedata.normalize("NFC", "Käfer")
APART = unicodedata.normalize("NFD", "Käfer")


def test_numbers_are_in_the_order_of_their_values_other_names_of_their_letters() -> None:
    assert in_order(["10", "9", "2", "9"]) == ("2", "9", "10")
    assert in_order(["10", "9", "02"]) == ("02", "10", "9")


def test_folders_from_two_systems_hold_one_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {APART: pictures(3), COMPOSED: pictures(2), "b": pictures(1)})
    write_folder(tmp_path / "test", {COMPOSED: pictures(2), "b": pictures(1)})
    assert DataSet("folder", str(tmp_path)).describe().class_names == (COMPOSED, "b")
    assert DataSet("folder", str(tmp_path)).load("train").label_counts().tolist() == [5, 1]
    given = DataSet("folder", str(tmp_path), class_names=("b", APART)).load("train")
    assert given.label_counts().tolist() == [1, 5]


def test_sites_from_two_systems_share_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "one", {APART: pictures(10), "b": pictures(10)})
    write_folder(tmp_path / "two", {COMPOSED: pictures(10), "c": pictures(10)})
    write_parquet(tmp_path / "three.parquet", pictures(2), [APART, "b"])
    assert DataSet("folder", str(tmp_path)).describe().class_names == (COMPOSED, "b", "c")


def test_tables_from_two_systems_hold_one_class(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(3), [APART, COMPOSED, "b"])
    assert DataSet("parquet", str(tmp_path)).load("train").label_counts().tolist() == [2, 1]
    assert site_data(tmp_path, class_names=("b", APART)).labels.tolist() == [1, 1, 0]
    write_parquet(tmp_path / "named.parquet", pictures(2), [0, 1], names=["b", APART])
    assert site_data(tmp_path / "named.parquet").class_names == ("b", COMPOSED)


def test_a_server_without_images_announces_one_spelling() -> None:
    assert announced("folder", ("b", APART), "1x8x8").class_names == ("b", COMPOSED)
    with pytest.raises(DataError, match="each once"):
        announced("folder", (COMPOSED, APART), "1x8x8")
