import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from foundation.data import Batches, DataError, FeatureNoise, ImageData, Normalization
from foundation.data.batches import (
    CROP_PADDING,
    crop_flip_positions,
    crop_flip_rotate_positions,
    random_moves,
)

NORMALIZATIONS = {
    1: Normalization((0.3,), (0.4,)),
    3: Normalization((0.49, 0.48, 0.44), (0.25, 0.24, 0.26)),
}


def some_data(samples: int, channels: int = 3, size: tuple[int, int] = (12, 10)) -> ImageData:
    """Random images whose first pixel is the label, so that a mix-up shows."""
    rng = np.random.default_rng(samples)
    images = rng.integers(0, 256, (samples, channels, *size), dtype=np.uint8)
    labels = rng.integers(0, 9, samples)
    images[:, :, 0, 0] = labels[:, None]
    return ImageData(images, labels, tuple("abcdefghi"))


def batches_of(data: ImageData, batch_size: int = 16, **options: object) -> Batches:
    return Batches(
        data,
        normalization=NORMALIZATIONS[data.channels],
        batch_size=batch_size,
        **options,  # type: ignore[arg-type]
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def epoch_of(batches: Batches, seed: int = 0) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches.epoch(generator(seed)), strict=True)
    return torch.cat(images), torch.cat(labels)


@settings(deadline=None, max_examples=50)
@given(
    samples=st.integers(2, 70),
    batch_size=st.integers(1, 80),
    channels=st.sampled_from([1, 3]),
    drop=st.booleans(),
)
@example(samples=33, batch_size=16, channels=3, drop=True)
@example(samples=33, batch_size=16, channels=3, drop=False)
@example(samples=17, batch_size=16, channels=1, drop=True)
@example(samples=9, batch_size=1, channels=1, drop=True)
def test_an_epoch_gives_every_image_once_with_its_label(
    samples: int, batch_size: int, channels: int, drop: bool
) -> None:
    data = some_data(samples, channels)
    batches = batches_of(data, batch_size, drop_singleton=drop)
    seen = list(batches.epoch(generator()))
    assert len(seen) == batches.steps_per_epoch
    dropped = drop and samples % batch_size == 1 and samples > batch_size and batch_size > 1
    assert sum(len(labels) for _, labels in seen) == samples - dropped
    if drop and batch_size > 1:
        assert all(len(labels) > 1 for _, labels in seen)
    images = torch.cat([images for images, _ in seen])
    labels = torch.cat([labels for _, labels in seen])
    restored = NORMALIZATIONS[channels].invert(images).numpy()
    np.testing.assert_array_equal(restored[:, 0, 0, 0], labels)
    original = {image.tobytes() for image in data.images}
    assert len(original) == samples
    assert {image.tobytes() for image in restored} <= original
    assert len({image.tobytes() for image in restored}) == len(restored)


@pytest.mark.parametrize("channels", [1, 3])
def test_ordered_batches_are_the_normalised_images_in_order(channels: int) -> None:
    data = some_data(33, channels)
    batches = batches_of(data, augmentation="crop-flip")
    images, labels = zip(*batches.ordered(), strict=True)
    expected = NORMALIZATIONS[channels].apply(torch.from_numpy(data.images))
    torch.testing.assert_close(torch.cat(images), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(torch.cat(labels), data.labels)
    assert [len(batch) for batch in labels] == [16, 16, 1]
    np.testing.assert_array_equal(batches.labels, data.labels)


@pytest.mark.parametrize("augmentation", ["none", "crop-flip", "crop-flip-rotate"])
def test_same_generator_same_batches(augmentation: str) -> None:
    batches = batches_of(some_data(40), augmentation=augmentation)
    for first, second in zip(epoch_of(batches, 3), epoch_of(batches, 3), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(epoch_of(batches, 3)[0], epoch_of(batches, 4)[0])


def test_the_generator_moves_on_between_epochs() -> None:
    batches = batches_of(some_data(40))
    stream = generator()
    first, second = (torch.cat([y for _, y in batches.epoch(stream)]) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ["none", "crop-flip", "crop-flip-rotate"])
def test_channels_last_changes_the_layout_only(channels: int, augmentation: str) -> None:
    data = some_data(20, channels)
    plain = batches_of(data, augmentation=augmentation)
    last = batches_of(data, augmentation=augmentation, channels_last=True)
    for (a, _), (b, _) in zip(plain.epoch(generator()), last.epoch(generator()), strict=True):
        assert torch.equal(a, b)
        assert a.is_contiguous()
        assert b.is_contiguous(memory_format=torch.channels_last)
        assert a.dtype == b.dtype == torch.float32


def gather(image: Tensor, positions: Tensor) -> Tensor:
    """Apply positions (n, H, W) to one image (C, H, W)."""
    flat = image.flatten(1)[:, positions.flatten()]
    return flat.view(len(image), *positions.shape).transpose(0, 1)


def test_crop_flip_is_the_crop_of_the_mirrored_image_then_the_flip() -> None:
    height, width = 9, 7
    image = torch.arange(3 * height * width, dtype=torch.float32).view(3, height, width)
    moves = random_moves(300, rotate=False, generator=generator())
    moved = gather(image, crop_flip_positions(moves, height, width))
    pad = CROP_PADDING
    padded = torch.nn.functional.pad(image[None], (pad,) * 4, mode="reflect")[0]
    for (down, right, flip, _), result in zip(moves.tolist(), moved, strict=True):
        top, left = pad + int(down), pad + int(right)
        expected = padded[:, top : top + height, left : left + width]
        torch.testing.assert_close(result, expected.flip(2) if flip else expected)


def test_without_an_angle_rotation_is_the_crop_padded_with_black_then_the_flip() -> None:
    height, width = 9, 7
    image = 1 + torch.arange(3 * height * width, dtype=torch.float32).view(3, height, width)
    moves = random_moves(300, rotate=False, generator=generator())
    positions, inside = crop_flip_rotate_positions(moves, height, width)
    moved = gather(image, positions) * inside.unsqueeze(1)
    pad = CROP_PADDING
    padded = torch.nn.functional.pad(image[None], (pad,) * 4)[0]
    for (down, right, flip, _), result in zip(moves.tolist(), moved, strict=True):
        top, left = pad + int(down), pad + int(right)
        expected = padded[:, top : top + height, left : left + width]
        torch.testing.assert_close(result, expected.flip(2) if flip else expected)


def test_rotation_is_torchvisions() -> None:
    size = 32
    image = 1 + torch.arange(size * size, dtype=torch.float32).view(1, size, size)
    degrees = torch.tensor([-15.0, -7.3, 0.0, 4.1, 15.0])
    moves = torch.zeros(5, 4)
    moves[:, 3] = torch.deg2rad(degrees)
    positions, inside = crop_flip_rotate_positions(moves, size, size)
    ours = gather(image, positions) * inside.unsqueeze(1)
    for angle, result in zip(degrees.tolist(), ours, strict=True):
        theirs = rotate(image, angle, interpolation=InterpolationMode.NEAREST)
        # Positions that fall between two pixels may be rounded either way.
        assert (result == theirs).float().mean() > 0.98


def test_moves_have_the_ranges_and_frequencies_of_the_recipe() -> None:
    moves = random_moves(20_000, rotate=True, generator=generator())
    down, right, flip, angle = moves.unbind(1)
    for shift in (down, right):
        values, counts = shift.unique(return_counts=True)
        assert values.tolist() == list(range(-4, 5))
        torch.testing.assert_close(counts / 20_000, torch.full((9,), 1 / 9), rtol=0.1, atol=0)
    assert abs(flip.mean() - 0.5) < 0.02
    assert angle.abs().max() <= torch.deg2rad(torch.tensor(15.0))
    assert abs(torch.rad2deg(angle).std() - 30 / 12**0.5) < 0.2
    assert not random_moves(10, rotate=False, generator=generator())[:, 3].any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ["crop-flip", "crop-flip-rotate"])
def test_augmented_pixels_come_from_their_own_image(channels: int, augmentation: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(60))
    images = np.empty((60, channels, 12, 10), np.uint8)
    images[:] = (labels * 4 + 3)[:, None, None, None]
    data = ImageData(images, labels, tuple(map(str, range(60))))
    moved, moved_labels = epoch_of(batches_of(data, 7, augmentation=augmentation))
    restored = NORMALIZATIONS[channels].invert(moved)
    own = (moved_labels * 4 + 3).view(-1, 1, 1, 1)
    black = (restored == 0) & (augmentation == "crop-flip-rotate")
    assert ((restored == own) | black).all()


def test_augmentation_differs_from_image_to_image_and_epoch_to_epoch() -> None:
    picture = some_data(2).images[:1]
    data = ImageData(np.repeat(picture, 200, axis=0), np.zeros(200, np.int64), ("a",))
    moved, _ = epoch_of(batches_of(data, augmentation="crop-flip"))
    # 9 x 9 shifts, 2 flips: 162 pictures, of which 200 draws show about 115.
    assert 90 < len(torch.unique(moved, dim=0)) < 140


def test_images_are_copied_to_the_device() -> None:
    data = some_data(10, channels=1)
    batches = batches_of(data)
    before, _ = next(batches.ordered())
    data.images[:] = 0
    data.labels[:] = 0
    after, labels = next(batches.ordered())
    assert torch.equal(before, after)
    assert labels.any()


def test_read_only_arrays_are_taken_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    data = some_data(10, channels=1)
    data.images.setflags(write=False)
    data.labels.setflags(write=False)
    batches_of(data)
    assert not recwarn.list


def test_a_single_image_is_refused_unless_asked_for() -> None:
    data = some_data(1)
    with pytest.raises(DataError, match="single image, and BatchNorm cannot train on one"):
        batches_of(data)
    batches = batches_of(data, drop_singleton=False)
    assert batches.steps_per_epoch == 1
    assert len(epoch_of(batches)[0]) == 1


def test_what_does_not_fit_is_refused() -> None:
    data = some_data(4)
    with pytest.raises(DataError, match="choose one of none, crop-flip, crop-flip-rotate"):
        batches_of(data, augmentation="mixup")
    with pytest.raises(DataError, match="needs larger ones than 4x9"):
        batches_of(some_data(4, size=(4, 9)), augmentation="crop-flip")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ["none", "crop-flip", "crop-flip-rotate"])
def test_cuda_gives_the_batches_of_the_cpu(channels: int, augmentation: str) -> None:
    data = some_data(50, channels)
    noisy = ImageData(data.images, data.labels, data.class_names, FeatureNoise(0.1, (1, 2, 3, 4)))
    here = batches_of(noisy, augmentation=augmentation)
    there = batches_of(noisy, augmentation=augmentation, device="cuda", channels_last=True)
    for (a, x), (b, y) in zip(here.epoch(generator()), there.epoch(generator()), strict=True):
        assert b.device.type == "cuda"
        assert torch.equal(x, y.cpu())
        # A rotated position that falls between two pixels may be rounded either way.
        differing = ((a - b.cpu()).abs() > 1e-5).float().mean()
        assert differing < (0.01 if augmentation == "crop-flip-rotate" else 1e-9)
