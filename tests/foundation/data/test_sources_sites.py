"""A folder of sites: each is a client of its own, and never a class."""

from pathlib import Path

import numpy as np
import pytest

from foundation.data import DataError, DataSet, Division, PartitionError
from foundation.data.partitions import PARTITIONS
from tests.foundation.data.tiny_files import pictures, write_folder, write_parquet


def three_sites(root: Path) -> Path:
    """Write two folders of classes, one of them with splits, and a parquet file."""
    write_folder(root / "clinic-a", {"cat": pictures(4), "owl": pictures(2)})
    write_folder(root / "clinic-b" / "train", {"owl": pictures(3)})
    write_folder(root / "clinic-b" / "Test", {"owl": pictures(2)})
    write_parquet(root / "clinic-c.parquet", pictures(5), ["ant", "cat", "cat", "ant", "ant"])
    return root


def with_server(root: Path) -> Path:
    write_folder(root / "server" / "test", {n: pictures(3) for n in ("ant", "cat", "owl")})
    return three_sites(root)


def of_client(root: Path, client: int, clients: int = 3) -> list[int]:
    data = Division(DataSet("folder", str(root)), clients=clients, seed=0, kind="folders").data(
        client
    )
    return data.label_counts().tolist()


def test_every_site_is_a_client_with_its_own_images_by_the_servers_classes(tmp_path: Path) -> None:
    root = with_server(tmp_path)
    assert DataSet("folder", str(root)).sites() == {
        "clinic-a": 6,
        "clinic-b": 3,
        "clinic-c": 5,
    }
    assert DataSet("folder", str(root)).describe().class_names == ("ant", "cat", "owl")
    assert DataSet("folder", str(root)).load("test").label_counts().tolist() == [3, 3, 3]
    assert [of_client(root, client) for client in range(3)] == [[0, 4, 2], [0, 0, 3], [3, 2, 0]]
    data = Division(DataSet("folder", str(root)), clients=3, seed=0, kind="folders").data(1)
    np.testing.assert_array_equal(data.images, pictures(3).transpose(0, 3, 1, 2))


def test_without_a_server_classes_are_all_that_sites_have_and_their_tests_are_the_test(
    tmp_path: Path,
) -> None:
    root = three_sites(tmp_path)
    assert DataSet("folder", str(root)).describe().class_names == ("ant", "cat", "owl")
    # A fifth of clinic-a's four cats and two owls, and clinic-b's own two.
    test = DataSet("folder", str(root)).load("test").label_counts()
    train = sum(np.array(of_client(root, client)) for client in range(3))
    assert test.tolist()[2] >= 2
    assert (train + test).tolist() == [3, 6, 7]


def test_a_test_image_is_its_sites_and_the_servers_are_nobodys(tmp_path: Path) -> None:
    data_set = DataSet("folder", str(three_sites(tmp_path / "sites")))
    place, whose = data_set.places("test"), data_set.test_sites()
    rows = np.concatenate(list(whose.values()))
    assert sorted(rows.tolist()) == list(range(len(data_set.load("test"))))
    assert "clinic-b" in whose and all(f"{s}" in place(int(r)) for s in whose for r in whose[s])
    assert DataSet("folder", str(with_server(tmp_path / "more"))).test_sites() == {}
    assert DataSet("digits").test_sites() == {}


def test_a_site_holds_out_of_its_own(tmp_path: Path) -> None:
    root = with_server(tmp_path)
    write_folder(root / "clinic-a", {"cat": pictures(30)})
    division = {"clients": 3, "seed": 0, "kind": "folders"}
    rows = [
        Division(DataSet("folder", str(root)), validation_share=0.2, **division).rows(c)
        for c in range(3)
    ]
    together = np.sort(np.concatenate([part for pair in rows for part in pair]))
    assert together.tolist() == list(range(40))
    assert len(rows[0][1]) == 6 and rows[0][1].max() < 32


@pytest.mark.parametrize("kind", PARTITIONS)
def test_sites_are_never_trained_on_as_classes(tmp_path: Path, kind: str) -> None:
    root = three_sites(tmp_path)
    with pytest.raises(PartitionError, match=r"sites clinic-a, clinic-b, .*partition=folders"):
        Division(DataSet("folder", str(root)), clients=3, seed=0, kind=kind).data(0)


def test_the_number_of_clients_is_that_of_the_sites(tmp_path: Path) -> None:
    with pytest.raises(PartitionError, match=r"num-clients = 10, .*3 sites .*num-clients=3"):
        of_client(three_sites(tmp_path), 0, clients=10)


def test_a_data_set_that_is_one_whole_has_no_sites(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": pictures(4), "owl": pictures(4)})
    with pytest.raises(PartitionError, match="this data is one whole"):
        of_client(tmp_path, 0)
    with pytest.raises(PartitionError, match="this data is one whole"):
        Division(DataSet("digits"), clients=3, seed=0, kind="folders").data(0)


def test_classes_with_folders_of_their_own_names_in_them_are_classes(tmp_path: Path) -> None:
    for name, below in (("cat", ("black", "white")), ("owl", ("barn", "snowy"))):
        write_folder(tmp_path / name, {part: pictures(2) for part in below})
    assert DataSet("folder", str(tmp_path)).describe().class_names == ("cat", "owl")
    assert DataSet("folder", str(tmp_path)).sites() == {}


def test_class_names_tell_sites_from_classes_where_folders_cannot(tmp_path: Path) -> None:
    write_folder(tmp_path / "one", {"cat": pictures(4), "dog": pictures(4)})
    write_folder(tmp_path / "two", {"owl": pictures(4)})
    assert DataSet("folder", str(tmp_path)).sites() == {}
    names = ("cat", "dog", "owl")
    assert DataSet("folder", str(tmp_path), class_names=names).sites().keys() == {"one", "two"}
    write_folder(tmp_path / "two", {"cat": pictures(4)})
    assert DataSet("folder", str(tmp_path), class_names=("one", "two")).sites() == {}


def test_a_site_that_disagrees_is_named(tmp_path: Path) -> None:
    root = with_server(tmp_path / "a")
    write_folder(root / "clinic-a", {"elk": pictures(1)})
    with pytest.raises(DataError, match=r"site clinic-a: .*'elk', which is not one of"):
        DataSet("folder", str(root)).describe()
    for folder, odd in (("b", "Cat"), ("c", "cat ")):
        root = three_sites(tmp_path / folder)
        write_folder(root / "clinic-d", {odd: pictures(1), "owl": pictures(1)})
        with pytest.raises(DataError, match=rf"'cat', .*'{odd}'|'{odd}'.*'cat'"):
            DataSet("folder", str(root)).describe()


@pytest.mark.parametrize("below", ["", "train"])
def test_a_folder_of_images_beside_sites_does_not_make_classes_of_them(
    tmp_path: Path, below: str
) -> None:
    """With the folder "new" of loose images, north and south became classes, and a run went on."""
    for site in ("north", "south"):
        write_folder(tmp_path / site / below, {"ant": pictures(3), "bee": pictures(3)})
    write_folder(tmp_path, {"new": pictures(2)})
    for ask in (DataSet.describe, DataSet.sites):
        with pytest.raises(DataError, match=r"north, south.*new.*move these.*class-names"):
            ask(DataSet("folder", str(tmp_path)))


def test_classes_with_folders_of_their_own_names_beside_plain_ones_are_classes(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path / "owl", {"grey": pictures(3), "brown": pictures(3)})
    write_folder(tmp_path, {"ant": pictures(2)})
    assert DataSet("folder", str(tmp_path)).describe().class_names == ("ant", "owl")


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("horsse", "site b alone has the class 'horsse', and lacks 'horse'"),
        ("hrose", "site b alone has the class 'hrose', and lacks 'horse'"),
        ("cow", ""),  # another animal
    ],
)
def test_a_class_that_one_site_misspelt_is_said(tmp_path, caplog, odd: str, said: str) -> None:
    for site, own in (("a", "horse"), ("b", odd), ("c", "horse")):
        write_folder(tmp_path / site, {own: pictures(3), "pig 1": pictures(3)})
    write_folder(tmp_path / "c", {"pig 2": pictures(3)})  # numbered, not misspelt
    DataSet("folder", str(tmp_path)).describe()
    assert [said in line for line in caplog.messages] == ([True] if said else [])


def test_two_sites_that_name_a_class_differently_are_told_once(tmp_path, caplog) -> None:
    for site, own in (("a", "horse"), ("b", "horses")):
        write_folder(tmp_path / site, {own: pictures(3), "cow": pictures(3)})
    DataSet("folder", str(tmp_path)).describe()
    assert len(caplog.messages) == 1
    assert "site b alone has the class 'horses', and lacks 'horse'" in caplog.text
