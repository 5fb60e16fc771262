"""The images of a run: a data set by its name, and its division over simulated clients."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from foundation.errors import DataError, PartitionError, warn_once
from foundation.members import DATA_SETS
from foundation.wording import listed

from .agreement import Description
from .collection import Collection, Source
from .images import ImageData
from .names import shown
from .noise import feature_noise, noisy_labels
from .partitions import HELD_OUT_FROM, Indices, partition, stratified_split, stratified_subset
from .sources.folder import folder_of_sites

#: The partition in which every site's folder is one client.
FOLDERS = "folders"


@dataclass(frozen=True)
class DataSet:
    """A data set as a run names it; who has one asks it.

    What cannot be read is a DataError of every method, which names the file or row and what to do.
    """

    name: str
    #: Directory of the files; needed for a user's own, optional for hub data sets.
    data_dir: str = ""
    #: For a user's own files: the classes in order, instead of those the files show.
    class_names: tuple[str, ...] = ()
    #: Side of the square that every image is brought to, in pixels: its shorter side is resized and
    #: its centre cut out. 0: the images' own size, which must be one for all.
    image_size: int = 0
    #: Go on without images that cannot be read, naming them in a warning; else they are errors.
    leave_out_unreadable: bool = False
    #: Hold out a fifth of a user's own images where there are no test files.
    own_test: bool = True

    @property
    def is_here(self) -> bool:
        """Whether there are images; a user's own are elsewhere if no directory is named."""
        return bool(self.data_dir) or not self._source.own

    def describe(self) -> Description:
        """Describe the classes and images; known data sets without being opened."""
        if (known := self._source.description) is not None:
            # What `data_dir` holds is known, and a client need not have the server's directory.
            return known.resized_to(self.image_size)
        return self._collection.describe()

    def has(self, split: str) -> bool:
        """Tell whether there is a ``train`` or ``test`` split; images elsewhere have none here."""
        if self._source.description is not None:  # not looked for: that may be a download
            return True
        return self.is_here and split in self._collection.splits

    def has_test_of_its_own(self) -> bool:
        """Tell whether a user chose test images."""
        return self._source.own and self.is_here and self.has("test") and not self.draws_test()

    def draws_test(self) -> bool:
        """Tell whether the test images are a share that was drawn, and not the user's choice."""
        return self.has("test") and self._collection.draws_test

    def load(self, split: str) -> ImageData:
        """Load the ``train`` or ``test`` split, in the order of its files; it is kept."""
        return _loaded(self, split)

    def sites(self) -> dict[str, int]:
        """Return how many training images each site has, in their order; empty without sites."""
        if self._source.description is not None:
            return {}
        collection = self._collection
        return dict(zip(collection.sites, collection.training_sizes(), strict=True))

    def places(self, split: str) -> Callable[[int], str]:
        """Return what says where an image of :meth:`load` comes from: a file, or a row of one."""
        if self._source.description is not None:
            return lambda row: f"{split} image {row}"
        records, rows = self._collection.records(split), self._collection.rows(split)
        return lambda row: records.where(int(rows[row]))

    def test_sites(self) -> dict[str, Indices]:
        """Return the rows of each site's own test images; empty where they are not the sites'."""
        if self._source.description is not None:
            return {}
        collection = self._collection
        if not collection.test_sites:
            return {}
        whose = np.array(collection.test_sites)[collection.rows("test")]
        found = {site: np.flatnonzero(whose == k) for k, site in enumerate(collection.sites)}
        return {site: rows for site, rows in found.items() if len(rows)}

    def warn_of_copies(self) -> None:
        """Say how many images stand in both splits, in several classes, or in one class twice."""
        collection = self._collection
        if collection.public or not self.has("train"):
            return
        train, test = (
            [row.tobytes() for row in collection.digests(split)] if self.has(split) else []
            for split in ("train", "test")
        )
        in_classes = set(zip(train, self.load("train").labels.tolist(), strict=True))
        once = set(train)
        for count, what in (
            (len(once.intersection(test)), "test images are training images as well"),
            (len(in_classes) - len(once), "training images stand in another class as well"),
            (len(train) - len(in_classes), "training images are copies of others in their class"),
        ):
            if count:
                warn_once(f"data set '{self.name}': {count:,} {what}")

    def digest(self, split: str, rows: Indices | None = None) -> str:
        """Return a digest of a split's images and labels, or of some rows, in whatever order.

        It changes with any image, and not with the names and places of files.
        """
        digests, labels = self._collection.digests(split), self.load(split).labels
        if rows is not None:
            digests, labels = digests[rows], labels[rows]
        content = np.hstack([digests, labels.astype("<i8")[:, None].view(np.uint8)])
        return hashlib.sha256(b"".join(sorted(row.tobytes() for row in content))).hexdigest()[:32]

    @property
    def _source(self) -> Source:
        source = DATA_SETS.load(self.name, Source)
        if self.class_names and not source.own:
            raise DataError(f"class names are part of data set '{self.name}' and cannot be given")
        return source

    @property
    def _collection(self) -> Collection:
        return _opened(self)


@lru_cache(maxsize=16)
def _opened(data_set: DataSet) -> Collection:
    collection = data_set._source.open(data_set.data_dir, data_set.class_names)
    if data_set.own_test:
        collection = collection.with_own_test()
    return replace(
        collection,
        image_size=data_set.image_size,
        leave_out_unreadable=data_set.leave_out_unreadable,
    )


@lru_cache(maxsize=16)
def _loaded(data_set: DataSet, split: str) -> ImageData:
    collection = data_set._collection
    data = collection.load(split)
    if not collection.published:
        _warn_of_unlike_splits(collection)
    return data


def _warn_of_unlike_splits(collection: Collection) -> None:
    """Say which classes one of the splits has, and the other lacks."""
    train, test = (collection.label_counts(split) for split in ("train", "test"))
    names = np.array(collection.class_names)
    if train.any() and test.any():
        if only_tested := listed(names[(train == 0) & (test > 0)].tolist()):
            warn_once(
                f"data set '{collection.name}': the test set alone has class {only_tested}: no "
                "model can learn it"
            )
        if untested := listed(names[(train > 0) & (test == 0)].tolist()):
            warn_once(
                f"data set '{collection.name}': the test set lacks class {untested}: its accuracy "
                "says nothing of it"
            )


@dataclass(frozen=True)
class Division:
    """The training images of a data set, divided over simulated clients.

    Every process of a run computes the same division by itself, so nothing needs to be sent. What
    cannot be divided is a DataError or a PartitionError of every method.
    """

    data_set: DataSet
    #: From here on see `partitions.partition`; the kind ``folders`` makes each site one client.
    clients: int
    seed: int
    kind: str = "dirichlet"
    dirichlet_alpha: float = 0.05
    classes_per_client: int = 2
    quantity_alpha: float = 0.5
    min_samples: int = 10
    #: Divide only this many training images, drawn with the classes' shares kept; 0: all.
    train_samples: int = 0
    #: Share of each class that a client holds out, in [0, 1); a class of `HELD_OUT_FROM` images or
    #: more gives at least one, and no class gives all.
    validation_share: float = 0.0
    #: From here on see `noise`.
    feature_noise: float = 0.0
    feature_noise_kind: str = "level"
    label_noise: str = "none"
    label_noise_rate: float = 0.0

    def parts(self) -> tuple[Indices, ...]:
        """Return every client's rows of the training split, ascending int64, held out or not."""
        return _parts(self)

    def rows(self, client: int) -> tuple[Indices, Indices]:
        """Say which rows of the training split a client trains on, and which it holds out.

        Held-out images are there to judge models; they are drawn by the true labels, before any
        noise. Both are ascending, together the client's rows, without overlap.
        """
        parts = self.parts()
        if not 0 <= client < len(parts):
            raise PartitionError(f"client {client} is not one of the clients 0..{len(parts) - 1}")
        rows = parts[client]
        if self.validation_share == 0:
            return rows, rows[:0]
        labels = self.data_set.load("train").labels[rows]
        kept, held_out = stratified_split(
            labels, self.validation_share, [self.seed, client], at_least_one_of=HELD_OUT_FROM
        )
        return rows[kept], rows[held_out]

    def digests(self) -> dict[str, list[str]]:
        """Digest what every client trains on, and what it holds out; see `DataSet.digest`."""
        parts = [self.rows(client) for client in range(len(self.parts()))]
        return {
            "train": [self.data_set.digest("train", trained) for trained, _ in parts],
            "held-out": [self.data_set.digest("train", held_out) for _, held_out in parts],
        }

    def data(self, client: int, split: str = "train") -> ImageData:
        """Get what a client trains on, or (``held-out``) what it holds out, maybe nothing.

        The images are copied out of the memory-mapped data set at every call, which costs
        milliseconds; to keep them would fill memory with a copy of the whole. Those held out look
        as the others do, and have true labels.
        """
        trained, held_out = self.rows(client)
        whole = self.data_set.load("train")
        looks = feature_noise(
            self.feature_noise_kind,
            self.feature_noise,
            client=client,
            clients=self.clients,
            image_size=whole.image_size,
        )
        if split == "held-out":
            return replace(whole.subset(held_out), feature_noise=looks)
        data = whole.subset(trained)
        data.require_some(f"client {client}")
        labels = noisy_labels(
            data.labels,
            self.label_noise,
            self.label_noise_rate,
            classes=data.classes,
            seed=self.seed,
            client=client,
        )
        return replace(data, labels=labels, feature_noise=looks)


@lru_cache(maxsize=32)
def _parts(division: Division) -> tuple[Indices, ...]:
    data_set, sites = division.data_set, division.data_set.sites()
    if sites or division.kind == FOLDERS:
        return _parts_of_sites(division, sites)
    labels = data_set.load("train").labels
    rows: Indices | None = None
    if samples := division.train_samples:
        if not 0 < samples <= len(labels):
            raise PartitionError(
                f"train-samples must be between 1 and the {len(labels)} training images of "
                f"'{data_set.name}' (0: all), not {samples}"
            )
        rows = stratified_subset(labels, samples, division.seed)
        labels = labels[rows]
    parts = partition(
        labels,
        kind=division.kind,
        clients=division.clients,
        seed=division.seed,
        dirichlet_alpha=division.dirichlet_alpha,
        classes_per_client=division.classes_per_client,
        quantity_alpha=division.quantity_alpha,
        min_samples=division.min_samples,
    )
    return tuple(part if rows is None else rows[part] for part in parts)


def _parts_of_sites(division: Division, sites: dict[str, int]) -> tuple[Indices, ...]:
    data_set, some = division.data_set, listed(list(sites))
    if not sites:
        meant = folder_of_sites(data_set.data_dir) if data_set.data_dir else None
        raise PartitionError(
            f"partition = '{FOLDERS}' needs dataset=folder and a data-dir with one folder for each "
            "site, in which there are class folders; this data is one whole. Sites that have no "
            "class in common are told from classes by class-names=NAME,NAME"
            + (f". Did you mean data-dir={shown(meant)}?" if meant else "")
        )
    if division.kind != FOLDERS:
        raise PartitionError(
            f"data-dir holds the sites {some}, whose folders hold class folders: say "
            f"partition={FOLDERS} to make each of them a client, not partition={division.kind}. If "
            "these are classes with folders in them, name them with class-names"
        )
    if division.clients != len(sites):
        raise PartitionError(
            f"num-clients = {division.clients}, but data-dir holds {len(sites)} sites ({some}): "
            f"say num-clients={len(sites)}"
        )
    if division.train_samples:
        raise PartitionError(
            f"train-samples = {division.train_samples} cannot be used with partition={FOLDERS}: "
            "every site trains on all its images"
        )
    ends = np.cumsum(list(sites.values()))
    return tuple(
        np.arange(end - size, end, dtype=np.int64)
        for size, end in zip(sites.values(), ends, strict=True)
    )
