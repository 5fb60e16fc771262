import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundation.data import FeatureNoise, ImageData, Normalization

unit = st.floats(0.01, 1.0)


@given(mean=st.tuples(unit, unit, unit), std=st.tuples(unit, unit, unit))
def test_every_byte_survives_normalisation_and_back(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    normalization = Normalization(mean, std)
    assert torch.equal(normalization.invert(normalization.apply(images)), images)


def test_normalisation_is_the_published_formula() -> None:
    images = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8).view(1, 1, 2, 2)
    result = Normalization((0.2,), (0.5,)).apply(images)
    expected = torch.tensor([[-0.4, 1.6], [0.0, 0.4]]).view(1, 1, 2, 2)
    torch.testing.assert_close(result, expected)
    assert result.dtype == torch.float32


def test_bounds_are_black_and_white() -> None:
    normalization = Normalization((0.2, 0.5, 0.9), (0.5, 0.25, 0.1))
    low, high = normalization.bounds()
    black = normalization.apply(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)).flatten()
    white = normalization.apply(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    torch.testing.assert_close(torch.tensor(low), black)
    torch.testing.assert_close(torch.tensor(high), white)


def test_values_outside_the_pixel_range_are_clipped() -> None:
    normalization = Normalization((0.5,), (0.5,))
    floats = torch.tensor([-5.0, 5.0]).view(1, 1, 1, 2)
    assert normalization.invert(floats).flatten().tolist() == [0, 255]


def some_data() -> ImageData:
    images = np.arange(4 * 3 * 2 * 5, dtype=np.uint8).reshape(4, 3, 2, 5)
    noise = FeatureNoise(0.1)
    return ImageData(images, np.array([2, 0, 2, 2]), ("a", "b", "c"), feature_noise=noise)


def test_image_data_knows_its_shape_and_counts() -> None:
    data = some_data()
    assert (len(data), data.classes, data.channels, data.image_size) == (4, 3, 3, (2, 5))
    assert data.label_counts().tolist() == [1, 0, 3]


def test_a_subset_keeps_order_and_noise_and_copies() -> None:
    data = some_data()
    part = data.subset([3, 1])
    assert part.labels.tolist() == [2, 0]
    np.testing.assert_array_equal(part.images, data.images[[3, 1]])
    assert part.feature_noise == data.feature_noise
    part.images[:] = 0
    assert data.images[3].any()
    assert len(data.subset([])) == 0
