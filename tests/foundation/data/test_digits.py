import numpy as np
from sklearn.datasets import load_digits

from foundation.data import Batches, DataSet


def test_digits_are_all_there_once() -> None:
    train, test = DataSet("digits").load("train"), DataSet("digits").load("test")
    assert len(train) + len(test) == 1797
    both = np.concatenate([train.images, test.images]).reshape(1797, 64)
    original = np.rint(load_digits().data * (255 / 16)).astype(np.uint8)
    # The same images as scikit-learn's, each once.
    np.testing.assert_array_equal(both[np.lexsort(both.T)], original[np.lexsort(original.T)])
    assert both.max() == 255


def test_a_fifth_of_every_digit_is_for_testing() -> None:
    train, test = DataSet("digits").load("train"), DataSet("digits").load("test")
    share = test.label_counts() / (train.label_counts() + test.label_counts())
    np.testing.assert_allclose(share, 0.2, atol=0.005)


def test_description_fits_the_data_and_its_constants_are_the_training_splits() -> None:
    description, train = DataSet("digits").describe(), DataSet("digits").load("train")
    assert (description.classes, description.channels) == (train.classes, train.channels)
    assert description.image_size == train.image_size == (8, 8)
    pixels = train.images / 255
    np.testing.assert_allclose(description.normalization.mean, pixels.mean(), atol=5e-5)
    np.testing.assert_allclose(description.normalization.std, pixels.std(), atol=5e-5)


def test_the_labels_belong_to_the_images() -> None:
    train = DataSet("digits").load("train")
    original = load_digits()
    lookup = {
        image.tobytes(): label
        for image, label in zip(
            np.rint(original.images * (255 / 16)).astype(np.uint8), original.target, strict=True
        )
    }
    assert all(
        lookup[image.tobytes()] == label
        for image, label in zip(train.images, train.labels, strict=True)
    )


def test_digits_make_batches() -> None:
    description = DataSet("digits").describe()
    batches = Batches(
        DataSet("digits").load("test"), normalization=description.normalization, batch_size=100
    )
    assert sum(len(labels) for _, labels in batches.ordered()) == batches.samples
