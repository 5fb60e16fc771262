"""Three unlike sites and a server with real images, to try a deployment with.

The handwritten digits, as files: what hospitals, shops or machines would have of their own.
"""

import io
from pathlib import Path

import numpy as np

from foundation.data import DataSet, ImageData

#: Site → the digits it has seen, and how many of each at most.
SITES: dict[str, tuple[tuple[int, ...], int]] = {
    "site-1": ((0, 1, 2, 3, 4, 5), 100),
    "site-2": ((4, 5, 6, 7), 60),
    "site-3": ((0, 7, 8, 9), 140),
}


def write_example_sites(directory: Path) -> None:
    """Write the example's files.

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
