"""Every data set by name: the embedded digits, the field's public sets and a user's own files.

A new data set is one file that declares a `Source`, and a line in `SOURCES`.
"""

from ..collection import Source
from .digits import source as digits
from .folder import source as folder
from .hub import HUB_SETS
from .parquet import source as parquet

__all__ = ["SOURCES", "Source"]

SOURCES: dict[str, Source] = {
    "digits": digits,
    **HUB_SETS,
    "parquet": parquet,
    "folder": folder,
}
