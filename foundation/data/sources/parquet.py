"""Images in parquet files, in the layout that the ``datasets`` library writes.

A row holds an encoded image (a struct of ``bytes`` and ``path``, or plain bytes) and a label (an
integer, or a class name as text).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from foundation.errors import DataError

from ..agreement import Description
from ..collection import SPLIT_NAMES, Collection, Source
from ..decoding import Encoded, Records
from ..names import are_numbers, composed, in_order, listed
from .walk import LeftOut, file_identity, folders_in

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label", "labels")

_ROWS_AT_ONCE = 1024
# So many different labels may be classes however few images there are.
_CERTAINLY_CLASSES = 100


def directory_of(dataset: str, data_dir: str) -> Path:
    """Return the directory of a user's own data set.

    Raises
    ------
    DataError
        If none is named, or there is no such directory.
    """
    if not data_dir:
        raise DataError(f"data set '{dataset}' needs data-dir, the directory of your images")
    directory = Path(data_dir).expanduser()
    if not directory.is_dir():
        raise DataError(f"data-dir {directory} is not a directory")
    return directory


def _open(data_dir: str, class_names: tuple[str, ...]) -> Collection:
    directory = directory_of("parquet", data_dir)
    files = find_files(directory, SPLIT_NAMES)
    if not files:
        raise DataError(
            f"{directory} holds no train.parquet or test.parquet (or train-*.parquet, "
            f"test-*.parquet)"
        )
    warn_of_others(files)
    collection = parquet("parquet", files, class_names)
    if len(collection.class_names) == 1:
        raise DataError(
            f"{directory}: all labels are '{collection.class_names[0]}': two classes are needed or "
            "more"
        )
    return collection


def find_files(directory: Path, names: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """Find each split's parquet files in a directory, else in the first below it that has any.

    Parameters
    ----------
    directory : Path
        Where to look.
    names : mapping
        For each split the stems it may have, in order: ``{"test": ("test", "valid")}`` finds
        ``test.parquet`` or ``test-00000-of-00002.parquet`` and their like.

    Returns
    -------
    dict
        Split to its files, sorted; a split without files is left out.
    """
    for place in (directory, *folders_in(directory)):
        found: dict[str, list[Path]] = {}
        for split, stems in names.items():
            for stem in stems:
                files = sorted([*place.glob(f"{stem}.parquet"), *place.glob(f"{stem}-*.parquet")])
                if files:
                    found[split] = files
                    break
        if found:
            return found
    return {}


def warn_of_others(files: Mapping[str, Sequence[Path]]) -> None:
    """Name parquet files beside those of the splits, which nobody reads."""
    read = {file for found in files.values() for file in found}
    left_out = LeftOut()
    for place in {file.parent for file in read}:
        for file in sorted(place.glob("*.parquet")):
            if file not in read:
                left_out.add("parquet files beside those of the splits", file)
    left_out.warn(next(iter(read)).parent)


def parquet(
    name: str,
    files: Mapping[str, Sequence[Path]],
    class_names: Sequence[str] = (),
    *,
    image_columns: Sequence[str] = IMAGE_COLUMNS,
    label_columns: Sequence[str] = LABEL_COLUMNS,
    description: Description | None = None,
) -> Collection:
    """Read images from parquet files.

    Classes are named by `class_names`; without it by the ``datasets`` metadata in the file, or by
    the labels that occur (sorted). Classes named by numbers, such as 100 and 20240101, are found by
    these numbers; where the names are others, a number is a position among them.

    Parameters
    ----------
    name : str
        Name of the data set.
    files : mapping
        Split to its files.
    class_names : sequence of str (default: ())
        The federation's classes in order, so that sites that miss some agree on the numbers.
    image_columns, label_columns : sequence of str
        Column names to look for, in order.
    description : Description or None (default: None)
        For a known data set.

    Raises
    ------
    DataError
        An unreadable file, a missing column, a label that is empty, negative or not among
        `class_names` (its row is named), or a column that has a label of its own for most images.
    """
    columns = {
        split: _Columns(paths, image_columns, label_columns) for split, paths in files.items()
    }
    raw = {split: column.raw_labels() for split, column in columns.items()}
    names = tuple(composed(name) for name in class_names) or _infer_names(columns, raw)
    labels = {
        split: _number(raw[split], column, names, trust_metadata=description is None)
        for split, column in columns.items()
    }
    every_file = [file for paths in files.values() for file in paths]
    return Collection(
        name=name,
        identity="\n".join(file_identity(file, file.stat()) for file in every_file)
        + "\n"
        + "\n".join(names),
        class_names=names,
        splits=tuple(files),
        records=lambda split: Records(
            images=columns[split].images, labels=labels[split], where=columns[split].where
        ),
        description=description,
        announced=_announced(columns, names, given=bool(class_names) and description is None),
    )


def _announced(
    columns: Mapping[str, "_Columns"], names: tuple[str, ...], *, given: bool
) -> tuple[str, ...]:
    # Where the caller gave the classes, the files speak only of those in their metadata.
    spoken = {name for column in columns.values() for name in column.metadata_names()}
    return tuple(name for name in names if name in spoken) if given else names


class _Columns:
    """The image and the label column of one split's files."""

    def __init__(
        self, files: Sequence[Path], image_columns: Sequence[str], label_columns: Sequence[str]
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.files = list(files)
        self.rows: list[int] = []
        for file in self.files:
            try:
                with pq.ParquetFile(file) as opened:
                    schema, rows = opened.schema_arrow, opened.metadata.num_rows
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"{file} is not a readable parquet file: {error}") from error
            self.rows.append(rows)
            if len(self.rows) == 1:
                self.schema = schema
                self.image = _choose(schema, image_columns, "image", file)
                self.label = _choose(schema, label_columns, "label", file)
            elif not {self.image, self.label} <= set(schema.names):
                raise DataError(
                    f"{file} lacks the columns '{self.image}' and '{self.label}' of {files[0]}"
                )

    def where(self, index: int) -> str:
        """Name the file and the row of an image of the split."""
        for file, rows in zip(self.files, self.rows, strict=True):
            if index < rows:
                return f"{file} row {index}"
            index -= rows
        return f"{self.files[-1]} row {index + self.rows[-1]}"

    def raw_labels(self) -> "pa.ChunkedArray":
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = [pq.read_table(file, columns=[self.label]) for file in self.files]
        labels = pa.concat_tables(tables).column(self.label)
        if pa.types.is_dictionary(labels.type):
            labels = labels.cast(labels.type.value_type)
        if pa.types.is_string_view(labels.type):  # of which PyArrow makes no dictionary
            labels = labels.cast(pa.large_string())
        if not (pa.types.is_integer(labels.type) or _is_text(labels)):
            raise DataError(
                f"{self.files[0]} column '{self.label}' holds {labels.type}: labels are integers "
                f"or class names"
            )
        if labels.null_count:
            row = int(np.flatnonzero(labels.is_null().to_numpy())[0])
            raise DataError(f"{self.where(row)} has no label")
        return labels

    def metadata_names(self) -> tuple[str, ...]:
        """Class names that the ``datasets`` library left in the file, or ()."""
        try:
            stored = json.loads((self.schema.metadata or {})[b"huggingface"])
            names = stored["info"]["features"][self.label]["names"]
        except (KeyError, TypeError, ValueError):
            return ()
        return tuple(composed(str(name)) for name in names)

    def images(self) -> Iterator[Encoded]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        index = 0
        for file in self.files:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=[self.image]):
                    column = batch.column(0)
                    for value in column.to_pylist():
                        yield self._encoded(value, pa.types.is_struct(column.type), file, index)
                        index += 1

    def _encoded(self, value: Any, is_struct: bool, file: Path, index: int) -> Encoded:
        path = None
        if is_struct and value is not None:
            value, path = value.get("bytes"), value.get("path")
        if isinstance(value, bytes):
            return value
        if path:
            return file.parent / str(path)
        raise DataError(f"{self.where(index)} has no image bytes in column '{self.image}'")


def _choose(schema: "pa.Schema", candidates: Sequence[str], what: str, file: Path) -> str:
    for candidate in candidates:
        if candidate in schema.names:
            return candidate
    raise DataError(
        f"{file} has no {what} column: expected one of {', '.join(candidates)}, "
        f"found {', '.join(schema.names)}"
    )


def _infer_names(
    columns: Mapping[str, _Columns], raw: Mapping[str, "pa.ChunkedArray"]
) -> tuple[str, ...]:
    for column in columns.values():
        if names := column.metadata_names():
            return names
    found = {label for labels in raw.values() for label in labels.unique().to_pylist()}
    rows = sum(len(labels) for labels in raw.values())
    if len(found) > max(_CERTAINLY_CLASSES, rows // 2):
        column = next(iter(columns.values()))
        raise DataError(
            f"{column.files[0]} column '{column.label}' has {len(found):,} different values for "
            f"{rows:,} images: it names images rather than classes"
        )
    # Negative numbers are no classes: they usually stand for "not labelled".
    return in_order(composed(str(label)) for label in found if isinstance(label, str) or label >= 0)


def _number(
    raw: "pa.ChunkedArray", column: _Columns, names: tuple[str, ...], *, trust_metadata: bool
) -> npt.NDArray[np.int64]:
    """Turn stored labels into positions in `names`."""
    stored_names = column.metadata_names() if trust_metadata else ()
    labels: npt.NDArray[np.int64]
    if _is_text(raw):
        dictionary = raw.combine_chunks().dictionary_encode()
        stored_names = tuple(composed(str(name)) for name in dictionary.dictionary.to_pylist())
        labels = dictionary.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        labels = raw.to_numpy().astype(np.int64)
        if not stored_names and are_numbers(names):
            values, labels = np.unique(labels, return_inverse=True)
            stored_names = tuple(str(value) for value in values)
    limit = len(stored_names) or len(names)
    outside = np.flatnonzero((labels < 0) | (labels >= limit))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{column.where(row)} has label {labels[row]}, outside 0..{limit - 1} ({limit} classes)"
        )
    if not stored_names or stored_names == names:
        return labels
    # The file has its own numbering (or only text): go by name, so that sites with fewer classes
    # agree with the federation on the numbers.
    positions = {name: position for position, name in enumerate(names)}
    lookup = np.array([positions.get(name, -1) for name in stored_names], dtype=np.int64)
    numbered: npt.NDArray[np.int64] = lookup[labels]
    unknown = np.flatnonzero(numbered < 0)
    if len(unknown):
        row = int(unknown[0])
        raise DataError(
            f"{column.where(row)} has label '{stored_names[labels[row]]}', which is not one of "
            f"the classes {listed(names)}"
        )
    return numbered


def _is_text(labels: "pa.ChunkedArray") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type))


source = Source("parquet", _open, own=True)
