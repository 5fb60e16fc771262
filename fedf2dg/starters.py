"""What the command writes to begin with: a Flower app of one's own, and images of three sites."""

import io
import keyword
from pathlib import Path

import numpy as np

from fedf2dg.console import data_folder
from foundation import ConfigurationError, whole_folder, write_whole
from foundation.data import DataSet, ImageData


def write_new(folder: Path) -> None:
    """Write an app, a copy of ``examples/own_app``, into a new folder, whose name is the app's.

    It runs as it is in both engines, with ``flwr run`` and on real sites. Its files are a package,
    which travels in its bundle and is part of the fingerprint that clients compare.
    """
    name = folder.resolve().name
    package = name.replace("-", "_")
    sound = package.isidentifier() and name == name.lower() and "_" not in name and len(name) <= 32
    if not sound or keyword.iskeyword(package):
        raise ConfigurationError(
            f"{name!r} cannot be the name of an app: take up to 32 lower-case letters, digits and "
            "hyphens, such as my-study"
        )
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already: name a new folder")
    example = data_folder("examples") / "own_app"
    with whole_folder(folder) as aside:
        for file in (*example.glob("*.*"), *example.glob("own_app/*.py")):
            place = aside / file.relative_to(example).as_posix().replace("own_app", package)
            text = file.read_text("utf-8")
            write_whole(place, text.replace("own_app", package).replace("own-app", name))


#: Site → the digits it has seen, and how many of each at most.
SITES: dict[str, tuple[tuple[int, ...], int]] = {
    "site-1": ((0, 1, 2, 3, 4, 5), 100),
    "site-2": ((4, 5, 6, 7), 60),
    "site-3": ((0, 7, 8, 9), 140),
}


def write_example_sites(directory: Path) -> None:
    """Write three unlike sites and a server, of the handwritten digits.

    These are ``server/test/<class>/*.png`` (the test images), ``site-1/<class>/*.png`` (grey,
    digits 0 to 5), ``site-2/<class>/*.png`` (the same kind of images saved in colour, digits 4 to
    7) and ``site-3.parquet`` (digits 0, 7, 8 and 9).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_folders(directory / "server" / "test", DataSet("digits").load("test"), "L")
    train = DataSet("digits").load("train")
    given = np.zeros(len(train), dtype=bool)
    for name, (digits, most) in SITES.items():
        rows = np.concatenate(
            [np.flatnonzero((train.labels == digit) & ~given)[:most] for digit in digits]
        )
        given[rows] = True
        part = train.subset(rows)
        if name != "site-3":
            write_folders(directory / name, part, "RGB" if name == "site-2" else "L")
            continue
        table = {
            "image": [{"bytes": _png(image, "L"), "path": None} for image in part.images],
            "label": [part.class_names[label] for label in part.labels],
        }
        pq.write_table(pa.table(table), directory / f"{name}.parquet")


def write_folders(directory: Path, data: ImageData, mode: str) -> None:
    """Write images as ``directory/<class>/*.png``, grey (mode L) or in colour (RGB)."""
    for index, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        folder = directory / data.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:04d}.png").write_bytes(_png(image, mode))


def _png(image: np.ndarray, mode: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[0]).convert(mode).save(stream, format="PNG")
    return stream.getvalue()
