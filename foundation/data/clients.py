"""The data of one client: a part of a simulated federation, or a site's own files."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .decoding import SizesDiffer
from .errors import DataError, PartitionError, warn_once
from .images import ImageData
from .noise import feature_noise as noise_of_client
from .noise import noisy_labels
from .partitions import Indices, partition
from .sources import (
    Description,
    load_split,
    own_files,
    read_description,
    read_split,
    sites_in,
)
from .stratification import stratified_split, stratified_subset

#: The partition in which every site's folder is one client.
FOLDERS = "folders"

#: A class of so many images gives at least one to those that are held out.
HELD_OUT_FROM = 10


def client_indices(
    dataset: str,
    data_dir: str = "",
    *,
    clients: int,
    seed: int,
    kind: str = "dirichlet",
    dirichlet_alpha: float = 0.05,
    classes_per_client: int = 2,
    quantity_alpha: float = 0.5,
    min_samples: int = 10,
    train_samples: int = 0,
    class_names: tuple[str, ...] = (),
    image_size: int = 0,
    leave_out_unreadable: bool = False,
) -> tuple[Indices, ...]:
    """Divide a data set's training split over simulated clients.

    Every process of a run computes the same division by itself, so nothing needs to be sent; the
    result is kept for the life of the process.

    Parameters
    ----------
    dataset, data_dir, class_names, image_size, leave_out_unreadable
        See `sources.describe`.
    clients, seed, kind, dirichlet_alpha, classes_per_client, quantity_alpha, min_samples
        See `partitions.partition`; the kind ``folders`` makes each site of a folder of sites one
        client (see `sources.sites`).
    train_samples : int (default: 0)
        Divide only this many training images, drawn with the classes' shares kept; 0: all.

    Returns
    -------
    tuple of np.ndarray
        One ascending int64 array of rows of the training split per client.

    Raises
    ------
    DataError, PartitionError
        See `sources.load_split` and `partitions.partition`.
    """
    return _client_indices(
        dataset,
        data_dir,
        tuple(class_names),
        train_samples,
        clients,
        seed,
        kind,
        dirichlet_alpha,
        classes_per_client,
        quantity_alpha,
        min_samples,
        image_size,
        leave_out_unreadable,
    )


def client_rows(
    dataset: str,
    data_dir: str = "",
    *,
    client: int,
    seed: int,
    validation_share: float = 0.0,
    **division: Any,
) -> tuple[Indices, Indices]:
    """Say which rows of the training split a simulated client trains on, and which it holds out.

    This is the one place where a simulated client's images are divided. Held-out images are there
    to judge models; they are drawn by the true labels, before any noise.

    Parameters
    ----------
    client : int
        This client's number, 0 .. clients - 1.
    validation_share : float (default: 0.0)
        Share of each class to hold out, in [0, 1); a class of `HELD_OUT_FROM` images or more gives
        at least one, and no class gives all. 0: none.
    dataset, data_dir, seed, division
        See `client_indices`.

    Returns
    -------
    tuple of np.ndarray
        Ascending rows to train on, and held out; together the client's rows, without overlap.

    Raises
    ------
    DataError, PartitionError
        See `client_indices`; and a `client` outside the federation.
    """
    parts = client_indices(dataset, data_dir, seed=seed, **division)
    if not 0 <= client < len(parts):
        raise PartitionError(f"client {client} is not one of the clients 0..{len(parts) - 1}")
    rows = parts[client]
    if validation_share == 0:
        return rows, rows[:0]
    labels = load_split(dataset, "train", data_dir, **_of_images(division)).labels[rows]
    kept, held_out = stratified_split(
        labels, validation_share, [seed, client], at_least_one_of=HELD_OUT_FROM
    )
    return rows[kept], rows[held_out]


def client_data(
    dataset: str,
    data_dir: str = "",
    *,
    client: int,
    clients: int,
    seed: int,
    split: str = "train",
    validation_share: float = 0.0,
    feature_noise: float = 0.0,
    feature_noise_kind: str = "level",
    label_noise: str = "none",
    label_noise_rate: float = 0.0,
    **division: Any,
) -> ImageData:
    """Get the data of one simulated client: what it trains on, or what it holds out.

    The division and the decoded data set are kept; the client's own images are copied out of the
    memory-mapped data set at every call, which costs milliseconds, while keeping every client a
    process has met would fill its memory with a private copy of the whole data set.

    Parameters
    ----------
    client, validation_share
        See `client_rows`.
    split : {"train", "held-out"} (default: "train")
        Held-out images are clean and may be none: noise concerns what is trained on.
    feature_noise, feature_noise_kind
        See `noise.feature_noise`; the noise is carried in the result and added by `Batches`.
    label_noise, label_noise_rate
        See `noise.noisy_labels`.
    dataset, data_dir, clients, seed, division
        See `client_indices`.

    Returns
    -------
    ImageData
        The client's images in memory.

    Raises
    ------
    DataError, PartitionError
        See `client_indices`; and a `client` outside the federation.
    """
    trained, held_out = client_rows(
        dataset,
        data_dir,
        client=client,
        clients=clients,
        seed=seed,
        validation_share=validation_share,
        **division,
    )
    whole = load_split(dataset, "train", data_dir, **_of_images(division))
    if split == "held-out":
        return whole.subset(held_out)
    data = whole.subset(trained)
    _require_images(data, f"client {client}")
    return replace(
        data,
        labels=noisy_labels(
            data.labels,
            label_noise,
            label_noise_rate,
            classes=data.classes,
            seed=seed,
            client=client,
        ),
        feature_noise=noise_of_client(
            feature_noise_kind,
            feature_noise,
            client=client,
            clients=clients,
            image_size=data.image_size,
        ),
    )


def site_data(
    path: str | Path,
    split: str = "train",
    *,
    like: Description | None = None,
    class_names: tuple[str, ...] = (),
    holdout: float = 0.0,
    site: str = "",
    image_size: int = 0,
    leave_out_unreadable: bool = False,
) -> ImageData:
    """Load the data of a real site (an edge client that has its own files).

    Parameters
    ----------
    path : str or Path
        A ``.parquet`` file, a directory of ``train.parquet`` (and ``test.parquet``), or a
        directory of class folders, plain or below ``train`` (and ``test``).
    split : str (default: "train")
        ``train``, or ``test``: the site's own test files, else what `holdout` set aside, which may
        be no image.
    like : Description or None (default: None)
        What the federation agreed on. Labels are numbered by its classes, images are brought to
        its channels, and to its size if it says so; else they must have that size. None: the
        site's own.
    class_names : tuple of str (default: ())
        The federation's classes in order, where there is no `like`.
    holdout : float (default: 0.0)
        Share of each class to set aside when the files have no test part; a class of
        `HELD_OUT_FROM` images or more gives at least one. The draw does not depend on a run's seed,
        so an image set aside once is never trained on.
    site : str (default: "")
        How to call the site in messages; empty: its path.
    image_size : int (default: 0)
        See `sources.describe`; used where there is no `like`.
    leave_out_unreadable : bool (default: False)
        See `sources.describe`.

    Returns
    -------
    ImageData
        The images; memory-mapped where nothing was set aside.

    Raises
    ------
    DataError
        See `sources.load_split`; a class, a size or a label that the federation does not have; no
        training image; or neither test files nor a share to set aside.
    """
    where = Path(path).expanduser()
    name = site or f"site {where}"
    if not 0 <= holdout < 1:
        raise DataError(f"{name}: holdout is a share in [0, 1), not {holdout}")
    try:
        source = own_files(where, like.class_names if like is not None else tuple(class_names))
        if like is not None:
            image_size = like.image_size[0] if like.resized else 0
        source = replace(source, image_size=image_size, leave_out_unreadable=leave_out_unreadable)
        if like is not None:
            _check_fit(read_description(source), like, name)
            source = replace(source, description=like)
        if "test" in source.splits or holdout == 0:
            data = read_split(source, split)
        else:
            whole = read_split(source, "train")
            kept, set_aside = stratified_split(
                whole.labels, holdout, seed=0, at_least_one_of=HELD_OUT_FROM
            )
            data = whole.subset(kept if split == "train" else set_aside)
    except SizesDiffer as error:
        if like is None:
            raise DataError(f"{name}: {error}") from error
        # The cure first: a long text is cut on its way to the server's log.
        height, width = like.image_size
        raise DataError(
            f"{name}: its images have several sizes, the federation's are {height}x{width}: set "
            f"image-size={min(like.image_size)} for the run ({error.what})"
        ) from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if split == "train":
        _require_images(data, name)
    return data


def _of_images(division: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `client_indices`' arguments that the images themselves depend on."""
    names = ("class_names", "image_size", "leave_out_unreadable")
    return {name: division[name] for name in names if name in division}


def _check_fit(own: Description, like: Description, name: str) -> None:
    if own.image_size != like.image_size:
        raise DataError(
            f"images are {own.image_size[0]}x{own.image_size[1]} pixels, the federation's are "
            f"{like.image_size[0]}x{like.image_size[1]} (height x width): resize them, or set "
            f"image-size={min(like.image_size)} for the run"
        )
    if own.channels != like.channels:
        kinds = {1: "grey", 3: "RGB"}
        warn_once(
            f"{name}: {kinds[own.channels]} images are used as {kinds[like.channels]}, like the "
            f"rest of the federation's"
        )


def _require_images(data: ImageData, owner: str) -> None:
    if len(data) == 0:
        raise DataError(f"{owner} has no training image: give it data or leave it out")


def _rows_of_sites(
    sites: tuple[str, ...], sizes: tuple[int, ...], kind: str, clients: int, train_samples: int
) -> tuple[Indices, ...]:
    shown = ", ".join(sites[:5]) + (", …" if len(sites) > 5 else "")
    if not sites:
        raise PartitionError(
            f"partition = '{FOLDERS}' needs dataset=folder and a data-dir with one folder for each "
            "site, in which there are class folders; this data is one whole. Sites that have no "
            "class in common are told from classes by class-names=NAME,NAME"
        )
    if kind != FOLDERS:
        raise PartitionError(
            f"data-dir holds the sites {shown}, whose folders hold class folders: say "
            f"partition={FOLDERS} to make each of them a client, not partition={kind}. If these "
            "are classes with folders in them, name them with class-names"
        )
    if clients != len(sites):
        raise PartitionError(
            f"num-clients = {clients}, but data-dir holds {len(sites)} sites ({shown}): say "
            f"num-clients={len(sites)}"
        )
    if train_samples:
        raise PartitionError(
            f"train-samples = {train_samples} cannot be used with partition={FOLDERS}: every site "
            "trains on all its images"
        )
    ends = np.cumsum(sizes)
    return tuple(
        np.arange(end - size, end, dtype=np.int64) for size, end in zip(sizes, ends, strict=True)
    )


@lru_cache(maxsize=32)
def _client_indices(
    dataset: str,
    data_dir: str,
    class_names: tuple[str, ...],
    train_samples: int,
    clients: int,
    seed: int,
    kind: str,
    dirichlet_alpha: float,
    classes_per_client: int,
    quantity_alpha: float,
    min_samples: int,
    image_size: int,
    leave_out_unreadable: bool,
) -> tuple[Indices, ...]:
    images: dict[str, Any] = {
        "class_names": class_names,
        "image_size": image_size,
        "leave_out_unreadable": leave_out_unreadable,
    }
    sites, sizes = sites_in(dataset, data_dir, **images)
    if sites or kind == FOLDERS:
        return _rows_of_sites(sites, sizes, kind, clients, train_samples)
    labels = load_split(dataset, "train", data_dir, **images).labels
    rows: npt.NDArray[np.int64] | None = None
    if train_samples:
        if not 0 < train_samples <= len(labels):
            raise PartitionError(
                f"train-samples must be between 1 and the {len(labels)} training images of "
                f"'{dataset}' (0: all), not {train_samples}"
            )
        rows = stratified_subset(labels, train_samples, seed)
        labels = labels[rows]

    parts = partition(
        labels,
        kind=kind,
        clients=clients,
        seed=seed,
        dirichlet_alpha=dirichlet_alpha,
        classes_per_client=classes_per_client,
        quantity_alpha=quantity_alpha,
        min_samples=min_samples,
    )
    return tuple(part if rows is None else rows[part] for part in parts)
