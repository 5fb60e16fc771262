from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foundation.data import (
    PARTITIONS,
    Batches,
    DataError,
    DataSet,
    Division,
    FeatureNoise,
    PartitionError,
    partition,
    site_data,
)
from foundation.data.agreement import from_values, to_values
from tests.foundation.data.tiny_files import encode, pictures, write_folder, write_parquet


@pytest.mark.parametrize("kind", PARTITIONS)
def test_the_clients_together_hold_the_training_split(kind: str) -> None:
    train = DataSet("digits").load("train")
    held = [
        Division(DataSet("digits"), clients=4, kind=kind, seed=1, classes_per_client=3).data(client)
        for client in range(4)
    ]
    assert sum(len(data) for data in held) == len(train)
    everything = np.concatenate([data.images for data in held]).reshape(len(train), -1)
    original = train.images.reshape(len(train), -1)
    np.testing.assert_array_equal(
        everything[np.lexsort(everything.T)], original[np.lexsort(original.T)]
    )


@pytest.mark.parametrize("kind", PARTITIONS)
def test_every_process_finds_the_same_division(kind: str, forget: Callable[[], None]) -> None:
    labels = DataSet("digits").load("train").labels
    expected = partition(labels, kind=kind, clients=5, seed=2)
    for _ in range(2):
        found = Division(DataSet("digits"), clients=5, kind=kind, seed=2).parts()
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        forget()


def test_a_hundred_clients_over_rounds_and_processes_decode_each_image_once(
    tmp_path: Path, decodes: list[str], monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path / "cache"))
    write_parquet(tmp_path / "train.parquet", pictures(300), [0, 1, 2] * 100)
    for _process in range(2):
        for _round in range(2):
            sizes = [
                len(
                    Division(
                        DataSet("parquet", str(tmp_path)),
                        clients=100,
                        kind="quantity",
                        quantity_alpha=100.0,
                        min_samples=1,
                        seed=0,
                    ).data(client)
                )
                for client in range(100)
            ]
            assert sum(sizes) == 300
        forget()
    assert len(decodes) == 300


def test_fewer_training_samples_keep_the_shares() -> None:
    parts = Division(DataSet("digits"), clients=4, kind="iid", seed=0, train_samples=500).parts()
    rows = np.concatenate(parts)
    assert len(rows) == len(set(rows.tolist())) == 500
    train = DataSet("digits").load("train")
    whole = train.label_counts() / len(train)
    np.testing.assert_allclose(train.subset(rows).label_counts() / 500, whole, atol=0.002)
    with pytest.raises(PartitionError, match="train-samples must be between 1 and the 1438"):
        Division(DataSet("digits"), clients=4, seed=0, train_samples=5000).parts()


def test_noise_reaches_the_client() -> None:
    def data(client: int, **noise: object):  # type: ignore[no-untyped-def]
        settings: dict[str, object] = {"clients": 3, "kind": "iid", "seed": 0, **noise}
        return Division(DataSet("digits"), **settings).data(client)  # type: ignore[arg-type]

    clean = data(2)
    assert clean.feature_noise is None
    noisy = data(2, feature_noise=0.3, label_noise="pairflip", label_noise_rate=0.4)
    assert noisy.feature_noise == FeatureNoise(0.3)
    np.testing.assert_array_equal(noisy.images, clean.images)
    changed = noisy.labels != clean.labels
    assert 0.3 < changed.mean() < 0.5
    np.testing.assert_array_equal(noisy.labels[changed], (clean.labels[changed] + 1) % 10)
    assert data(0, feature_noise=0.3).feature_noise is None
    space = data(1, feature_noise=0.2, feature_noise_kind="space").feature_noise
    assert space == FeatureNoise(0.2, (0, 4, 4, 4))
    batches = Batches(
        noisy, normalization=DataSet("digits").describe().normalization, batch_size=16
    )
    assert batches.feature_noise == FeatureNoise(0.3)
    # Noise is for training data: the split itself is never touched.
    assert DataSet("digits").load("train").feature_noise is None
    assert DataSet("digits").load("test").feature_noise is None


def test_a_client_outside_the_federation_is_refused() -> None:
    with pytest.raises(PartitionError, match=r"client 3 is not one of the clients 0\.\.2"):
        Division(DataSet("digits"), clients=3, seed=0).data(3)


def test_more_clients_than_the_data_can_feed_are_refused() -> None:
    with pytest.raises(PartitionError, match="1438 training samples cannot give 200 clients"):
        Division(DataSet("digits"), clients=200, seed=0).data(0)


def test_a_client_may_have_one_image(tmp_path: Path, warnings_seen: list[str]) -> None:
    """Whether a model can be trained on it is for those to say who know the model."""
    write_parquet(tmp_path / "train.parquet", pictures(3), [0, 1, 0])
    data = Division(
        DataSet("parquet", str(tmp_path)), clients=3, kind="iid", min_samples=1, seed=0
    ).data(1)
    assert len(data) == 1 and not warnings_seen


# Real sites.


def test_a_site_of_class_folders_trains_on_all_of_them(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": pictures(10), "b": pictures(5)})
    assert site_data(tmp_path).label_counts().tolist() == [10, 5]
    train, held = (site_data(tmp_path, split, holdout=0.2) for split in ("train", "test"))
    assert train.label_counts().tolist() == [8, 4]
    assert held.label_counts().tolist() == [2, 1]
    with pytest.raises(DataError, match="no test"):
        site_data(tmp_path, "test")


def test_a_site_of_train_and_test_folders_keeps_its_own_test(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": pictures(10), "b": pictures(5)})
    write_folder(tmp_path / "test", {"b": pictures(4)})
    assert len(site_data(tmp_path, holdout=0.5)) == 15
    assert site_data(tmp_path, "test", holdout=0.5).label_counts().tolist() == [0, 4]


@pytest.mark.parametrize("as_file", [True, False])
def test_a_site_of_parquet_files(tmp_path: Path, as_file: bool) -> None:
    file = write_parquet(tmp_path / "train.parquet", pictures(6), [0, 1, 0, 1, 0, 1])
    data = site_data(file if as_file else tmp_path)
    assert data.label_counts().tolist() == [3, 3]
    assert len(site_data(str(file), "test", holdout=0.34)) == 2


def test_sites_agree_with_the_federation_on_classes(
    tmp_path: Path, warnings_seen: list[str]
) -> None:
    server = write_folder(tmp_path / "server", {name: pictures(5) for name in ("a", "b", "c")})
    like = from_values(to_values(DataSet("folder", str(server)).describe()))
    assert like is not None
    site = write_folder(tmp_path / "site", {"c": pictures(4)})
    data = site_data(site, like=like)
    assert data.class_names == ("a", "b", "c")
    assert data.label_counts().tolist() == [0, 0, 4]
    # That a site lacks classes is the point of the whole affair, an empty folder is an accident.
    assert warnings_seen == []
    (site / "b").mkdir()
    site_data(site, like=like)
    assert warnings_seen == ["data set 'site': no training image of class b"]
    other = write_folder(tmp_path / "other", {"d": pictures(4)})
    with pytest.raises(DataError, match=r"clinic 7: .*class folder 'd', which is not one of"):
        site_data(other, like=like, site="clinic 7")


def test_sites_agree_with_the_federation_on_channels_and_size(
    tmp_path: Path, warnings_seen: list[str]
) -> None:
    like = DataSet(
        "folder", str(write_folder(tmp_path / "server", {"a": pictures(5), "b": pictures(5)}))
    ).describe()
    grey = pictures(3, channels=1)
    data = site_data(write_folder(tmp_path / "grey", {"a": grey}), like=like, site="clinic")
    np.testing.assert_array_equal(data.images[1], np.stack([grey[1]] * 3))
    assert warnings_seen == [
        "clinic: grey images are used as RGB, like the rest of the federation's"
    ]
    large = write_folder(tmp_path / "large", {"a": pictures(3, size=(9, 9))})
    with pytest.raises(DataError, match=r"clinic: images are 9x9 pixels, the .* are 8x6"):
        site_data(large, like=like, site="clinic")


def test_a_site_may_hold_a_known_set(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(2, size=(32, 32)), [9, 3])
    data = site_data(tmp_path, like=DataSet("cifar10").describe())
    assert data.class_names[data.labels[0]] == "truck"


def test_bad_sites_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: .*neither a directory nor a .parquet file"):
        site_data(tmp_path / "nowhere")
    broken = write_folder(tmp_path / "broken", {"a": [encode(pictures(1)[0]), b"broken"]})
    with pytest.raises(DataError, match=r"clinic: .*a/001.png is not a readable image"):
        site_data(broken, site="clinic")
    single = write_folder(tmp_path / "single", {"a": pictures(1)})
    assert len(site_data(single, site="clinic")) == 1
    only_test = write_parquet(tmp_path / "only" / "test.parquet", pictures(2), [0, 1]).parent
    with pytest.raises(DataError, match="has no train split, only test"):
        site_data(only_test)
