import numpy as np
import pytest
import torch

from foundation.data import (
    Batches,
    DataError,
    FeatureNoise,
    ImageData,
    Normalization,
    feature_noise,
    noisy_labels,
)

LABELS = np.random.default_rng(0).integers(0, 7, 20_000)


def test_level_noise_grows_from_nothing_to_all_of_it() -> None:
    noises = [
        feature_noise("level", 0.3, client=client, clients=4, image_size=(8, 8))
        for client in range(4)
    ]
    assert noises[0] is None
    assert [noise.std for noise in noises[1:] if noise] == pytest.approx([0.1, 0.2, 0.3])
    assert feature_noise("level", 0.3, client=0, clients=1, image_size=(8, 8)) == FeatureNoise(0.3)


def test_space_noise_gives_every_client_its_own_cell() -> None:
    covered = np.zeros((32, 32), dtype=int)
    for client in range(10):
        noise = feature_noise("space", 0.2, client=client, clients=10, image_size=(32, 32))
        assert noise is not None and noise.cell is not None and noise.std == 0.2
        top, left, height, width = noise.cell
        assert (height, width) == (8, 8)  # 10 clients: a grid of 4 x 4
        covered[top : top + height, left : left + width] += 1
    assert covered.max() == 1
    assert covered.sum() == 10 * 64


@pytest.mark.parametrize("clients", [1, 2, 4, 5, 9, 16, 64])
def test_all_cells_lie_in_the_image(clients: int) -> None:
    for client in range(clients):
        noise = feature_noise("space", 0.2, client=client, clients=clients, image_size=(8, 9))
        assert noise is not None and noise.cell is not None
        top, left, height, width = noise.cell
        assert height > 0 and width > 0
        assert top + height <= 8 and left + width <= 9


def noisy_batches(noise: FeatureNoise | None, std: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of an epoch of grey images with noise, and without, in [0, 1]."""
    images = np.full((400, 3, 8, 8), 100, np.uint8)
    data = ImageData(images, np.zeros(400, np.int64), ("a",), feature_noise=noise)
    batches = Batches(data, normalization=Normalization((0.5,) * 3, (std,) * 3), batch_size=64)
    epoch = torch.cat([images for images, _ in batches.epoch(torch.Generator().manual_seed(0))])
    ordered = torch.cat([images for images, _ in batches.ordered()])
    return (epoch * std + 0.5).numpy(), (ordered * std + 0.5).numpy()


@pytest.mark.parametrize("std", [0.05, 0.4])
def test_the_noise_in_the_batch_is_the_noise_asked_for(std: float) -> None:
    for noisy in noisy_batches(FeatureNoise(std)):
        _is_of_size(noisy - 100 / 255, std)


def _is_of_size(difference: np.ndarray, std: float) -> None:
    assert abs(difference.mean()) < 5 * std / np.sqrt(difference.size)
    np.testing.assert_allclose(difference.std(), std, rtol=0.02)
    # Independent between images, channels and pixels.
    flat = difference.reshape(400, -1)
    assert abs(np.corrcoef(flat[0], flat[1])[0, 1]) < 0.35
    assert abs(np.corrcoef(difference[:, 0].ravel(), difference[:, 1].ravel())[0, 1]) < 0.04


def test_space_noise_stays_in_its_cell() -> None:
    noisy, _ = noisy_batches(FeatureNoise(0.2, (2, 4, 3, 4)))
    spread = noisy.std(axis=(0, 1))
    inside = np.zeros((8, 8), dtype=bool)
    inside[2:5, 4:8] = True
    np.testing.assert_allclose(spread[inside], 0.2, rtol=0.1)
    np.testing.assert_allclose(spread[~inside], 0, atol=1e-4)


def test_noise_repeats_with_the_generator_and_is_always_the_same_in_order() -> None:
    first, second = noisy_batches(FeatureNoise(0.2)), noisy_batches(FeatureNoise(0.2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_symmetric_noise_reaches_every_other_class_equally(rate: float) -> None:
    noisy = noisy_labels(LABELS, "symmetric", rate, classes=7, seed=0, client=1)
    changed = noisy != LABELS
    np.testing.assert_allclose(changed.mean(), rate, atol=0.02)
    steps = np.bincount((noisy - LABELS)[changed] % 7, minlength=7)
    assert steps[0] == 0
    np.testing.assert_allclose(steps[1:] / steps.sum(), 1 / 6, atol=0.025)


def test_pairflip_goes_to_the_next_class() -> None:
    noisy = noisy_labels(LABELS, "pairflip", 0.3, classes=7, seed=0, client=1)
    changed = noisy != LABELS
    np.testing.assert_allclose(changed.mean(), 0.3, atol=0.02)
    np.testing.assert_array_equal(noisy[changed], (LABELS[changed] + 1) % 7)


def test_label_noise_depends_on_seed_and_client_only() -> None:
    def noisy(seed: int, client: int) -> np.ndarray:
        return noisy_labels(LABELS, "symmetric", 0.4, classes=7, seed=seed, client=client)

    np.testing.assert_array_equal(noisy(0, 1), noisy(0, 1))
    assert (noisy(0, 1) != noisy(0, 2)).mean() > 0.3
    assert (noisy(0, 1) != noisy(1, 1)).mean() > 0.3


def test_no_label_noise_changes_nothing() -> None:
    for kind, rate in (("none", 0.5), ("symmetric", 0.0)):
        noisy = noisy_labels(LABELS, kind, rate, classes=7, seed=0, client=0)
        np.testing.assert_array_equal(noisy, LABELS)
        assert noisy is not LABELS


def test_impossible_noise_is_refused() -> None:
    with pytest.raises(DataError, match="grid of 9x9 cells for 65 clients"):
        feature_noise("space", 0.1, client=0, clients=65, image_size=(8, 8))
    with pytest.raises(DataError, match="at least 2 classes"):
        noisy_labels(LABELS * 0, "symmetric", 0.5, classes=1, seed=0, client=0)
