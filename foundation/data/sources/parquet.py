"""Images in parquet files, in the layout that the ``datasets`` library writes.

A row holds an encoded image (a struct of ``bytes`` and ``path``, or plain bytes) and a label (an
integer, or a class name as text).
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from foundation.errors import DataError, warn_once
from foundation.wording import listed

from ..agreement import Description
from ..collection import SPLIT_NAMES, Collection, Source
from ..decoding import Encoded, Records
from ..images import refuse_labels_outside
from ..names import are_numbers, composed, in_order, refuse_look_alikes, shown
from .walk import LeftOut, file_identity, folders_in, has_images

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label", "labels")

_ROWS_AT_ONCE = 1024
# As the datasets library names them, in some versions with a fingerprint behind.
_SHARD = re.compile(r"-(?P<number>\d+)-of-(?P<count>\d+)(-[0-9a-f]+)?$", re.I)
_NUMBERED = re.compile(r"(\w+-)?(?P<number>\d+)").fullmatch
# So many different labels may be classes however few images there are.
_CERTAINLY_CLASSES = 100


def directory_of(dataset: str, data_dir: str) -> Path:
    """Return the directory of a user's own data set; a DataError where there is none."""
    if not data_dir:
        raise DataError(f"data set '{dataset}' needs data-dir, the directory of your images")
    directory = Path(data_dir).expanduser()
    if not directory.is_dir():
        raise DataError(f"data-dir {shown(directory)} is not a directory")
    return directory


def _open(data_dir: str, class_names: tuple[str, ...]) -> Collection:
    directory = directory_of("parquet", data_dir)
    files = find_files(directory, SPLIT_NAMES)
    if not files:
        raise DataError(
            f"{shown(directory)} holds no train.parquet or test.parquet (or train-*.parquet, "
            f"test-*.parquet, or numbered ones in folders, such as train/0000.parquet)"
        )
    warn_of_others(directory, files)
    collection = parquet("parquet", files, class_names)
    if len(collection.class_names) == 1:
        raise DataError(
            f"{shown(directory)}: all labels are '{collection.class_names[0]}': two classes are "
            "needed or more"
        )
    return collection


def parquet_files(directory: Path) -> list[Path]:
    """Return the parquet files of one's own in a directory, sorted."""
    return sorted(
        path
        for path in directory.iterdir()
        if path.suffix.lower() == ".parquet" and path.is_file() and not path.name.startswith(".")
    )


def find_files(directory: Path, names: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """Find each split's parquet files in a directory, else in the one folder in it that has any.

    `names` are the stems that a split may have, in order: ``{"test": ("test", "valid")}`` finds
    ``test.parquet`` or ``test-00000-of-00002.parquet`` and their like. Shards that are missing or
    of two uploads, and several folders that hold splits, are a DataError.
    """
    if found := splits_beside(directory, names):
        return found
    below = {
        place: files for place in folders_in(directory) if (files := splits_beside(place, names))
    }
    if len(below) > 1:
        shown_files = [
            shown(file.relative_to(directory))
            for files in below.values()
            for paths in files.values()
            for file in paths
        ]
        raise DataError(
            f"{shown(directory)} holds parquet files in several folders ({listed(shown_files)}): "
            f"put what belongs together into one folder, or name one of them, such as "
            f"data-dir={shown(next(iter(below)))}; sites of a folder need dataset=folder "
            "partition=folders"
        )
    return next(iter(below.values()), {})


def splits_beside(directory: Path, names: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """Find each split's parquet files in a directory itself, or in folders called like the splits.

    The latter, such as ``train/0000.parquet``, is how the Hugging Face hub converts data sets.
    """
    beside = parquet_files(directory)
    below = {place.name.lower(): parquet_files(place) for place in folders_in(directory)}

    def files(stem: str) -> list[Path]:
        numbered = [path for path in below.get(stem, ()) if path.stem.isdecimal()]
        return _files_of(stem, beside) or _files_of(stem, below.get(stem, ()), numbered)

    found = {split: next(filter(None, map(files, stems)), []) for split, stems in names.items()}
    return {split: files for split, files in found.items() if files}


def _files_of(stem: str, every: Sequence[Path], numbered: Sequence[Path] = ()) -> list[Path]:
    whole = [path for path in every if path.stem.lower() == stem]
    parts = [path for path in every if path.stem.lower().startswith(f"{stem}-")] or [*numbered]
    shards = {path: found for path in parts if (found := _SHARD.search(path.stem))}
    place = shown(every[0].parent) if every else ""
    if len(whole) > 1 or (whole and shards):
        two = listed([shown(path.name) for path in (*whole, *shards)])
        raise DataError(f"{place} holds {stem} twice ({two}): move what is not meant elsewhere")
    if whole or not shards:
        given = [int(found["number"]) for path in parts if (found := _NUMBERED(path.stem))]
        if len(given) > 1 and max(given) - min(given) >= len(given) == len(parts):
            warn_once(f"{place}: the numbers of the files of {stem} have a gap: {sorted(given)}")
        return whole or parts
    counts = sorted({int(found["count"]) for found in shards.values()})
    numbers = Counter(int(found["number"]) for found in shards.values())
    if len(counts) > 1 or max(numbers.values()) > 1 or max(numbers) >= counts[0]:
        raise DataError(
            f"{place} holds the shards of several uploads of {stem} "
            f"({listed([shown(path.name) for path in shards])}): move those that are not meant "
            "elsewhere"
        )
    if missing := [f"{number:05d}" for number in range(counts[0]) if number not in numbers]:
        raise DataError(
            f"{place} holds {len(numbers)} of the {counts[0]} shards of {stem}, without "
            f"{listed(missing)}: fetch the files that are missing"
        )
    return sorted(shards)


def warn_of_others(directory: Path, files: Mapping[str, Sequence[Path]]) -> None:
    """Name what lies beside the files of the splits, or in other folders, and is not read."""
    read = {file for found in files.values() for file in found}
    left_out = LeftOut()
    places = {file.parent for file in read}
    above = {directory, *places, *(place.parent for place in places if place != directory)}
    for place in sorted(above.union(*map(folders_in, above))):
        for file in parquet_files(place):
            if file not in read:
                left_out.add("parquet files beside those of the splits", file)
    for place in places:
        for folder in folders_in(place):
            if has_images(folder):
                left_out.add("folders of images beside parquet files", folder)
    left_out.warn(directory)


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

    Classes are named by `class_names`; without it by the ``datasets`` metadata in the files, or by
    the labels that occur (sorted). A file's numbers mean what its own metadata say. Classes named
    by numbers, such as 100 and 20240101, are found by these numbers; where the names are others, a
    number is a position among them.

    An unreadable file, a missing column, a label that is empty, negative or not among `class_names`
    (its row is named), a column that has a label of its own for most images, and files whose labels
    cannot be brought together are a DataError.
    """
    opened = {
        split: [_File.read(path, image_columns, label_columns) for path in paths]
        for split, paths in files.items()
    }
    every = [file for split in opened.values() for file in split]
    for first, *others in opened.values():
        for file in others:
            if (file.image, file.label) != (first.image, first.label):
                raise DataError(
                    f"{shown(file.path)} lacks the columns '{first.image}' and '{first.label}' of "
                    f"{shown(first.path)}"
                )
    lists = {file.spoken for file in every if file.spoken} if description is None else set()
    if description is None:
        _refuse_numbers_beside_names(every, lists)
    names = tuple(composed(name) for name in class_names) or _names_of(every, lists)
    # Numbers without a list of their own mean the list that the other files have.
    usual = next(iter(lists)) if len(lists) == 1 else ()
    if usual and (silent := [file for file in every if not (file.spoken or file.holds_text)]):
        speaking = next(file for file in every if file.spoken)
        warn_once(
            f"{shown(silent[0].path)} has numbers for labels and no names for them: 0 is read as "
            f"'{usual[0]}' and so on, as in {shown(speaking.path)}"
        )
    records = {
        split: Records.joined(
            [
                Records(
                    file.images,
                    file.numbered(names, file.spoken or usual if lists else ()),
                    file.where,
                )
                for file in found
            ]
        )
        for split, found in opened.items()
    }
    # Where the caller gave the classes, the files speak only of those in their metadata.
    given = bool(class_names) and description is None
    spoken = {name for file in every for name in file.spoken}
    return Collection(
        name=name,
        identity="\n".join([*(file.identity for file in every), *names]),
        class_names=names,
        splits=tuple(files),
        records=lambda split: records[split],
        description=description,
        announced=tuple(name for name in names if name in spoken) if given else names,
    )


@dataclass(frozen=True)
class _File:
    """One file: its columns, its labels as they are stored, and the names that it has for them."""

    path: Path
    rows: int
    image: str
    label: str
    labels: "pa.ChunkedArray"
    spoken: tuple[str, ...]
    identity: str

    @classmethod
    def read(
        cls, path: Path, image_columns: Sequence[str], label_columns: Sequence[str]
    ) -> "_File":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as opened:
                schema, rows = opened.schema_arrow, opened.metadata.num_rows
                image = _choose(schema, image_columns, "image", path)
                label = _choose(schema, label_columns, "label", path)
                labels = opened.read(columns=[label]).column(label)
                pictures = _pictures_beside(opened, image, path)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{shown(path)} is not a readable parquet file: {error}") from error
        if pa.types.is_dictionary(labels.type):
            labels = labels.cast(labels.type.value_type)
        if pa.types.is_string_view(labels.type):  # of which PyArrow makes no dictionary
            labels = labels.cast(pa.large_string())
        file = cls(
            path,
            rows,
            image,
            label,
            labels,
            _names_in_metadata(schema, label),
            "\n".join(file_identity(each, each.stat()) for each in (path, *pictures)),
        )
        if not (pa.types.is_integer(labels.type) or file.holds_text):
            raise DataError(
                f"{shown(path)} column '{label}' holds {labels.type}: labels are integers or class "
                "names"
            )
        if labels.null_count:
            rows = np.flatnonzero(labels.is_null().to_numpy())
            raise DataError(f"{file.where(int(rows[0]))} has no label{_such(rows)}")
        if file.holds_text and "" in (values := labels.to_pylist()):
            rows = np.flatnonzero([value == "" for value in values])
            raise DataError(f"{file.where(int(rows[0]))} has an empty label{_such(rows)}")
        return file

    @property
    def holds_text(self) -> bool:
        """Whether labels are names rather than numbers."""
        import pyarrow as pa

        kind = self.labels.type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    def where(self, row: int) -> str:
        """Name an image, for messages."""
        return f"{shown(self.path)} row {row}"

    def numbered(self, names: tuple[str, ...], stored: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """Return labels as positions in `names`; `stored` are the names of numbers, if known."""
        labels: npt.NDArray[np.int64]
        if self.holds_text:
            dictionary = self.labels.combine_chunks().dictionary_encode()
            stored = tuple(composed(str(name)) for name in dictionary.dictionary.to_pylist())
            labels = dictionary.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        else:
            labels = self.labels.to_numpy().astype(np.int64)
            if not stored and are_numbers(names):
                values, labels = np.unique(labels, return_inverse=True)
                stored = tuple(str(value) for value in values)
        refuse_labels_outside(labels, len(stored) or len(names), self.where)
        if not stored or stored == names:
            return labels
        # The file has its own numbering (or only text): go by name, so that sites with fewer
        # classes agree with the federation on the numbers.
        positions = {name: position for position, name in enumerate(names)}
        lookup = np.array([positions.get(name, -1) for name in stored], dtype=np.int64)
        numbered: npt.NDArray[np.int64] = lookup[labels]
        unknown = np.flatnonzero(numbered < 0)
        if len(unknown):
            row = int(unknown[0])
            raise DataError(
                f"{self.where(row)} has label '{stored[labels[row]]}', which is not one of the "
                f"classes {listed(names)}{_such(unknown)}"
            )
        return numbered

    def images(self) -> Iterator[Encoded]:
        """Read the encoded images, in order."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as opened:
            for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=[self.image]):
                column = batch.column(0)
                for value in column.to_pylist():
                    yield self._encoded(value, pa.types.is_struct(column.type))

    def _encoded(self, value: Any, is_struct: bool) -> Encoded:
        """Return an image as it is stored; no bytes, which cannot be read, where there is none."""
        path = None
        if is_struct and value is not None:
            value, path = value.get("bytes"), value.get("path")
        if isinstance(value, bytes):
            return value
        return self.path.parent / str(path) if path else b""


def _such(rows: npt.NDArray[np.integer[Any]]) -> str:
    """Name the rows that a sentence is true of, where it names the first of several."""
    return f"; there are {len(rows):,} such rows: {listed(rows.tolist())}" if len(rows) > 1 else ""


def _choose(schema: "pa.Schema", candidates: Sequence[str], what: str, file: Path) -> str:
    found = [candidate for candidate in candidates if candidate in schema.names]
    if len(found) > 1:
        warn_once(f"{shown(file)}: column '{found[0]}' is read, and not '{found[1]}'")
    if found:
        return found[0]
    raise DataError(
        f"{shown(file)} has no {what} column: expected one of {', '.join(candidates)}, "
        f"found {', '.join(schema.names)}"
    )


def _pictures_beside(opened: "pq.ParquetFile", image: str, path: Path) -> list[Path]:
    """Return the files that a table names where it holds no bytes, as far as they are there."""
    metadata = opened.metadata
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    content = [chunk.statistics for chunk in chunks if chunk.path_in_schema == f"{image}.bytes"]
    if f"{image}.path" not in {chunk.path_in_schema for chunk in chunks} or (
        content and all(known is not None and known.null_count == 0 for known in content)
    ):
        return []
    named = opened.read(columns=[f"{image}.path"]).column(image).to_pylist()
    places = [path.parent / row["path"] for row in named if row and row["path"]]
    return [place for place in places if place.is_file()]


def _names_in_metadata(schema: "pa.Schema", label: str) -> tuple[str, ...]:
    try:
        stored = json.loads((schema.metadata or {})[b"huggingface"])
        names = stored["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(composed(str(name)) for name in names)


def _refuse_numbers_beside_names(files: Sequence[_File], lists: set[tuple[str, ...]]) -> None:
    numbers = [file for file in files if not file.spoken and not file.holds_text]
    texts = [file for file in files if file.holds_text]
    if numbers and (len(lists) > 1 or (texts and not lists)):
        named = (texts or [file for file in files if file.spoken])[0]
        raise DataError(
            f"{shown(numbers[0].path)} has numbers for labels and no names for them, beside "
            f"{shown(named.path)}, which has names: give all files names, or all numbers"
        )


def _names_of(files: Sequence[_File], lists: set[tuple[str, ...]]) -> tuple[str, ...]:
    found = {
        composed(str(label))
        for file in files
        if file.holds_text or not lists
        for label in file.labels.unique().to_pylist()
        # Negative numbers are no classes: they usually stand for "not labelled".
        if isinstance(label, str) or label >= 0
    }
    rows = sum(file.rows for file in files)
    if len(found) > max(_CERTAINLY_CLASSES, rows // 2):
        raise DataError(
            f"{shown(files[0].path)} column '{files[0].label}' has {len(found):,} different values "
            f"for {rows:,} images: it names images rather than classes"
        )
    every = found.union(*lists)
    for each in lists:
        if every <= set(each):
            return each
    refuse_look_alikes(
        (name, shown(file.path))
        for file in files
        for name in (file.spoken or ({composed(str(v)) for v in file.labels.unique().to_pylist()}))
    )
    return in_order(every)


source = Source("parquet", _open, own=True)
