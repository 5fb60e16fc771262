"""Handwritten digits that come with scikit-learn: real images without a download.

1,797 grey 8x8 images, 20 % of each digit held out for testing. E. Alpaydin, C. Kaynak: Optical
Recognition of Handwritten Digits, UCI (1998), the test part; values 0..16 are spread over 0..255.
"""

from importlib.metadata import version

import numpy as np

from ..agreement import Description
from ..collection import Collection, Source
from ..decoding import Records
from ..images import Normalization
from ..partitions import stratified_split

# Share and seed of the test split. Fixed: a run's seed must not choose what it is tested on.
_TEST_SHARE = 0.2
_SPLIT_SEED = 0

_DESCRIPTION = Description(
    name="digits",
    class_names=tuple(str(digit) for digit in range(10)),
    channels=1,
    image_size=(8, 8),
    # Measured on the training split.
    normalization=Normalization((0.3055,), (0.3759,)),
)


def _open(data_dir: str, class_names: tuple[str, ...]) -> Collection:
    return Collection(
        name="digits",
        identity=f"scikit-learn {version('scikit-learn')}",
        class_names=_DESCRIPTION.class_names,
        splits=("train", "test"),
        records=_records,
        announced=_DESCRIPTION.class_names,
        public=True,
        published=True,
        description=_DESCRIPTION,
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


source = Source("digits", _open, _DESCRIPTION)
