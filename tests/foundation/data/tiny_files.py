"""Tiny data sets in the layouts of real ones."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def pictures(count: int, channels: int = 3, size: tuple[int, int] = (8, 6)) -> Pixels:
    """Random images, uint8 (count, H, W) or (count, H, W, 3)."""
    shape = (count, *size) if channels == 1 else (count, *size, 3)
    return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)


def encode(pixels: Pixels, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return stream.getvalue()


def write_parquet(
    path: Path,
    images: Iterable[Any],
    labels: Any,
    *,
    image_column: str = "image",
    label_column: str = "label",
    names: Sequence[str] = (),
) -> Path:
    """Write a parquet file as the ``datasets`` library does."""
    values = [encode(image) if isinstance(image, np.ndarray) else image for image in images]
    struct = pa.array(
        [{"bytes": value, "path": None} for value in values],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({image_column: struct, label_column: labels})
    if names:
        feature = {"names": list(names), "_type": "ClassLabel"}
        info = {"info": {"features": {image_column: {"_type": "Image"}, label_column: feature}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_folder(root: Path, classes: Mapping[str, Iterable[Any]]) -> Path:
    """Write class folders of PNG files."""
    for name, images in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(images):
            content = encode(image) if isinstance(image, np.ndarray) else image
            (root / name / f"{index:03d}.png").write_bytes(content)
    return root
