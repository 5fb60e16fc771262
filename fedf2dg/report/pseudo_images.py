"""Stored pseudo images, and which of them a picture shows."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from fedf2dg.report.figures import image_grid, to_png
from fedf2dg.report.run_record import client_names
from foundation import ExpectedError, write_whole
from foundation.wording import named

_FILE = re.compile(r"(?P<kind>.+)-c(?P<competition>\d+)-b(?P<batch>\d+)\.safetensors")
# Rows and columns of a picture.
_MOST = 12


class PseudoDataError(ExpectedError, ValueError):
    """Stored pseudo data cannot be shown; the message says why."""


@dataclass(frozen=True)
class PseudoGrid:
    """One image per client (row) and class (column).

    ``tiles``, (clients shown, classes shown, height, width, 3), hold RGB in [0, 1], NaN where a
    client made no image of a class; ``all_clients`` and ``all_classes`` count those that have
    images.
    """

    tiles: NDArray[np.float32]
    clients: tuple[int, ...]
    classes: tuple[int, ...]
    all_clients: int
    all_classes: int

    @property
    def note(self) -> str:
        """What the picture leaves out and how the images are shown."""
        said = []
        if len(self.clients) < self.all_clients:
            said.append(f"{len(self.clients)} of {self.all_clients} clients")
        if len(self.classes) < self.all_classes:
            said.append(f"{len(self.classes)} of {self.all_classes} classes")
        left_out = f"Shown: {' and '.join(said)}. " if said else ""
        return f"{left_out}Brightness as the models see it, cut to the range of real images."

    def figure(self, class_names: Sequence[str] = (), client_names: Sequence[str] = ()) -> Figure:
        """Draw it; who has no name has its number."""
        rows, columns = (
            [named(names, place) for place in places]
            for names, places in ((client_names, self.clients), (class_names, self.classes))
        )
        return image_grid(self.tiles, rows, columns)


def stored_sets(run_directory: Path | str) -> dict[tuple[str, int], list[Path]]:
    """Return the files of each set, by (kind, competition round), in the order of making."""
    found = []
    for path in (Path(run_directory) / "pseudo_data").glob("*.safetensors"):
        if match := _FILE.fullmatch(path.name):
            kind, place, batch = match["kind"], int(match["competition"]), int(match["batch"])
            found.append((place, kind != "common", kind, batch, path))
    sets: dict[tuple[str, int], list[Path]] = {}
    for place, _, kind, _, path in sorted(found):
        sets.setdefault((kind, place), []).append(path)
    return sets


def read_grid(
    run_directory: Path | str, kind: str = "common", competition_round: int = 0
) -> PseudoGrid:
    """Choose and read the images of a stored set that a picture shows.

    The first image of each client and class is shown, never a selected one, of the first clients
    and of the classes that most of them made. Only these are read, however large the files are.
    ``PseudoDataError`` if there is no such set or it cannot be read.
    """
    files = stored_sets(run_directory).get((kind, competition_round))
    if not files:
        raise PseudoDataError(f"no {kind} images of competition round {competition_round} stored")
    try:
        return _grid(files)
    except (OSError, SafetensorError, ValueError, KeyError, IndexError, TypeError) as error:
        raise PseudoDataError(f"the stored {kind} images could not be read: {error}") from error


def _grid(files: Sequence[Path]) -> PseudoGrid:
    first: dict[tuple[int, int], tuple[Path, int]] = {}
    metadata: Mapping[str, str] = {}
    for file in files:
        with safe_open(file, framework="np") as stored:
            sources, labels = (stored.get_tensor(name).tolist() for name in ("sources", "labels"))
            metadata = stored.metadata() or {}
        for row, pair in enumerate(zip(sources, labels, strict=True)):
            first.setdefault(pair, (file, row))
    if not first:
        raise PseudoDataError("there are no images")
    mean, std = (value.reshape(-1, 1, 1) for value in _normalization(metadata))
    all_clients = sorted({client for client, _ in first})
    all_classes = sorted({label for _, label in first})
    clients = all_clients[:_MOST]
    made = {c: sum((client, c) in first for client in clients) for c in all_classes}
    classes = sorted(sorted(all_classes, key=lambda c: -made[c])[:_MOST])
    found = {}
    for row, client in enumerate(clients):
        for column, label in enumerate(classes):
            if (client, label) in first:
                file, place = first[client, label]
                with safe_open(file, framework="np") as stored:
                    image = np.asarray(stored.get_slice("images")[place : place + 1][0], np.float32)
                found[row, column] = _rgb(image * std + mean)
    shape = next(iter(found.values())).shape  # every client shown made some class
    tiles = np.full((len(clients), len(classes), *shape), np.nan, np.float32)
    for cell, image in found.items():
        tiles[cell] = image
    return PseudoGrid(tiles, tuple(clients), tuple(classes), len(all_clients), len(all_classes))


def pseudo_grid(run_directory: Path | str, class_names: Sequence[str] = ()) -> Path:
    """Write ``pseudo_data/grid.png``: a sample of the first set by client and class."""
    sets = stored_sets(run_directory)
    if not sets:
        raise PseudoDataError(f"{run_directory} holds no pseudo data")
    grid = read_grid(run_directory, *next(iter(sets)))
    path = Path(run_directory) / "pseudo_data" / "grid.png"
    drawn = grid.figure(class_names, client_names(run_directory))
    write_whole(path, to_png(drawn), rivals=True)
    return path


def _normalization(metadata: Mapping[str, str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read mean and std from a file's metadata: JSON lists, alone or under "normalization"."""
    held = json.loads(metadata["normalization"]) if "normalization" in metadata else metadata
    if "mean" not in held or "std" not in held:
        raise ValueError("mean and std of the normalisation are missing in the file's metadata")
    mean, std = (
        json.loads(held[name]) if isinstance(held[name], str) else held[name]
        for name in ("mean", "std")
    )
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)


def _rgb(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring an image (C, H, W) to (H, W, 3) in [0, 1]; other than 3 channels are averaged."""
    if image.shape[0] != 3:
        image = np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    image = np.nan_to_num(image)
    return np.clip(image, 0.0, 1.0).transpose(1, 2, 0)
