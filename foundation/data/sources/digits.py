"""Handwritten digits that come with scikit-learn: real images without a download."""

from importlib.metadata import version

import numpy as np

from ..decoding import Records
from ..images import Normalization
from ..stratification import stratified_split
from .base import DataSource, Description, Source

# Share and seed of the test split. Fixed: a run's seed must not choose what it is tested on.
_TEST_SHARE = 0.2
_SPLIT_SEED = 0


def digits() -> Source:
    """1,797 grey 8x8 images of ten digits, 20 % of each held out for testing.

    Source: E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI (1998), the test
    part, as embedded in scikit-learn. Values 0..16 are spread over 0..255.
    """
    names = tuple(str(digit) for digit in range(10))
    return Source(
        name="digits",
        identity=f"scikit-learn {version('scikit-learn')}",
        class_names=names,
        splits=("train", "test"),
        records=_records,
        announced=names,
        public=True,
        description=Description(
            name="digits",
            class_names=names,
            channels=1,
            image_size=(8, 8),
            # Measured on the training split.
            normalization=Normalization((0.3055,), (0.3759,)),
        ),
    )


def _records(split: str) -> Records:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = stratified_split(labels, _TEST_SHARE, _SPLIT_SEED)
    rows = train if split == "train" else test
    return Records(
        images=lambda: iter(pixels[rows]),
        labels=labels[rows],
        where=lambda index: f"digits image {rows[index]}",
    )


source = DataSource("digits", lambda data_dir, class_names: digits())
