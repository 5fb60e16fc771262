"""Real CIFAR-10 (JPEG copy) beside the repository; skipped where there is none."""

import time

import numpy as np
import torch

from foundation.data import Batches, DataSet, Division, partition


def test_the_real_test_split_trains_as_it_is(real_cifar10: str) -> None:
    description = DataSet("cifar10", real_cifar10).describe()
    data = DataSet("cifar10", real_cifar10).load("test")
    assert data.images.shape == (10_000, 3, 32, 32)
    assert data.label_counts().tolist() == [1000] * 10
    # Published constants are those of the training images; the test images are much like them.
    pixels = data.images[::5] / 255
    normalization = description.normalization
    np.testing.assert_allclose(pixels.mean(axis=(0, 2, 3)), normalization.mean, atol=0.01)
    np.testing.assert_allclose(pixels.std(axis=(0, 2, 3)), normalization.std, atol=0.01)
    batches = Batches(
        data,
        normalization=normalization,
        batch_size=500,
        augmentation=description.augmentation,
    )
    images = torch.cat([images for images, _ in batches.epoch(torch.Generator().manual_seed(0))])
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=0.05)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), rtol=0, atol=0.05)


def test_the_preset_partition_of_the_real_labels(real_cifar10: str) -> None:
    """50,000 labels, 10 clients, alpha = 0.05: found in far less than a second."""
    import pyarrow.parquet as pq

    labels = pq.read_table(f"{real_cifar10}/train.parquet", columns=["label"])["label"].to_numpy()
    start = time.perf_counter()
    parts = partition(labels, kind="dirichlet", clients=10, dirichlet_alpha=0.05, seed=0)
    assert time.perf_counter() - start < 1
    assert min(len(part) for part in parts) >= 10
    assert sum(len(part) for part in parts) == 50_000


def test_a_client_of_the_real_set(real_cifar10: str, monkeypatch, decodes: list[str]) -> None:  # type: ignore[no-untyped-def]
    """The test file stands in for the training file, to save the time to decode it."""
    DataSet("cifar10", real_cifar10).load("test")
    decodes.clear()
    real = DataSet.load
    monkeypatch.setattr(DataSet, "load", lambda data_set, split: real(data_set, "test"))
    sizes = [
        len(Division(DataSet("cifar10", real_cifar10), clients=20, seed=0).data(client))
        for client in range(20)
    ]
    assert sum(sizes) == 10_000
    assert decodes == []
