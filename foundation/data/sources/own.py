"""A user's or a site's own files: what a path holds, and how it is read."""

from pathlib import Path

from ..errors import DataError
from .base import SPLIT_NAMES, Source
from .folder import folder
from .parquet import find_files, parquet, warn_of_others


def own_files(path: Path, class_names: tuple[str, ...] = (), *, test_share: float = 0.0) -> Source:
    """Find out what `path` is (a parquet file, parquet files or class folders) and read it.

    Without test files, `test_share` of class folders are held out; a parquet file is not split.

    Raises
    ------
    DataError
        It is none of these; or see `folder` and `parquet`.
    """
    if path.is_file() and path.suffix == ".parquet":
        return parquet(path.stem, {"train": [path]}, class_names)
    if not path.is_dir():
        raise DataError(f"{path} is neither a directory nor a .parquet file")
    files = find_files(path, SPLIT_NAMES)
    if files:
        warn_of_others(files)
        return parquet(path.name, files, class_names)
    return folder(path.name, path, class_names, test_share=test_share)
