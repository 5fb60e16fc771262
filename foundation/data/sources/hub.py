"""The field's public data sets, from the Hugging Face hub or from the same files on disk."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foundation.errors import DataError

from ..agreement import Description
from ..collection import Collection, Source
from ..decoding import Encoded, Records
from ..images import Normalization, refuse_labels_outside
from .parquet import find_files, parquet


@dataclass(frozen=True)
class _HubSet:
    """One data set of the hub: where it is, how its columns are called, what it looks like."""

    hub_id: str
    description: Description
    image_column: str = "image"
    label_column: str = "label"
    config: str | None = None
    test_split: str = "test"


def published(
    name: str,
    hub_id: str,
    class_names: tuple[str, ...],
    shape: tuple[int, int, int],
    normalization: Normalization,
    augmentation: str = "none",
    **there: str,
) -> Source:
    """Declare a data set of the hub, whose images have one `shape` (channels, height, width).

    What is called otherwise `there` than elsewhere are fields of `_HubSet`.
    """
    channels, height, width = shape
    description = Description(
        name, class_names, channels, (height, width), normalization, augmentation
    )
    known = _HubSet(hub_id, description, **there)
    return Source(name, lambda data_dir, _: _open(known, data_dir), description)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(label) for label in range(count))


_CIFAR100_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

_CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
_CLOTHES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

# Normalisation: mean and standard deviation over the training pixels, as commonly published.
# Augmentation: as in NIID-Bench (crops and flips for CIFAR-10, rotation by up to 15 degrees on top
# for CIFAR-100, none for digits and clothes, which a flip would turn into something else).
sources = (
    published(
        "cifar10",
        "uoft-cs/cifar10",
        tuple(_CIFAR10_NAMES.split()),
        (3, 32, 32),
        Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "crop-flip",
        image_column="img",
    ),
    published(
        "cifar100",
        "uoft-cs/cifar100",
        tuple(_CIFAR100_NAMES.split()),
        (3, 32, 32),
        Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        "crop-flip-rotate",
        image_column="img",
        label_column="fine_label",
    ),
    published(
        "svhn",
        "ufldl-stanford/svhn",
        _numbered(10),
        (3, 32, 32),
        Normalization((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        config="cropped_digits",
    ),
    published(
        "mnist", "ylecun/mnist", _numbered(10), (1, 28, 28), Normalization((0.1307,), (0.3081,))
    ),
    published(
        "fmnist",
        "zalando-datasets/fashion_mnist",
        _CLOTHES,
        (1, 28, 28),
        Normalization((0.2860,), (0.3530,)),
    ),
    published(
        "tiny-imagenet",
        "zh-plus/tiny-imagenet",
        _numbered(200),
        (3, 64, 64),
        Normalization((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)),
        "crop-flip",
        # The test images' labels were never published; the field tests on the validation part.
        test_split="valid",
    ),
)


def _open(known: _HubSet, data_dir: str) -> Collection:
    """Read a set from `data_dir` when given, else from the hub (downloaded on first use)."""
    name, class_names = known.description.name, known.description.class_names
    if data_dir:
        stems = {"train": ("train",), "test": (known.test_split, "test")}
        directory = Path(data_dir).expanduser()
        if known.config and (directory / known.config).is_dir():
            directory /= known.config
        files = find_files(directory, stems) if directory.is_dir() else {}
        if not files:
            raise DataError(
                f"{data_dir} holds no train.parquet or test.parquet (or "
                f"train-*.parquet, or train/0000.parquet): "
                f"{_what_to_download(known, data_dir)}, or leave data-dir empty to download it"
            )
        collection = parquet(
            name,
            files,
            class_names,
            image_columns=(known.image_column,),
            label_columns=(known.label_column,),
            description=known.description,
        )
        return replace(collection, public=True)
    return Collection(
        name=name,
        # The hub is asked only when nothing is cached: once decoded, a data set needs no network.
        identity=f"hub {known.hub_id} {known.config}",
        class_names=class_names,
        splits=("train", "test"),
        records=lambda split: _records(known, split),
        description=known.description,
        announced=class_names,
        public=True,
        published=True,
    )


def _records(known: _HubSet, split: str) -> Records:
    import datasets

    hub_split = "train" if split == "train" else known.test_split
    try:
        table = datasets.load_dataset(known.hub_id, known.config, split=hub_split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        # No network shows as ConnectionError, or as a missing data set when the hub client is in
        # offline mode.
        raise DataError(
            f"cannot get {known.hub_id} from the Hugging Face hub ({error}). Without network: "
            f"{_what_to_download(known, 'DIRECTORY')} and set data-dir to that directory"
        ) from error
    encoded = table.cast_column(known.image_column, datasets.Image(decode=False))
    labels = np.asarray(table.data.column(known.label_column).to_numpy(), dtype=np.int64)

    def where(row: int) -> str:
        return f"{known.hub_id} {hub_split} row {row}"

    refuse_labels_outside(labels, known.description.classes, where)

    def images() -> Iterator[Encoded]:
        for batch in encoded.select_columns(known.image_column).iter(batch_size=1024):
            for value in batch[known.image_column]:
                yield value["bytes"] if value["bytes"] is not None else Path(value["path"])

    return Records(images, labels, where)


def _what_to_download(known: _HubSet, directory: str) -> str:
    return (
        f"download the parquet files of huggingface.co/datasets/{known.hub_id} "
        f"(columns {known.image_column}, {known.label_column}) "
        f"as {directory}/train.parquet and {directory}/test.parquet"
    )
