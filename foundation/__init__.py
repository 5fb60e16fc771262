"""The ground that every room stands on: errors, whole files, seeds, whole-number shares.

It imports nothing of this project, and neither torch nor Flower.
"""

from .apportionment import largest_remainder
from .errors import ExpectedError, UsageError
from .files import clear_unfinished, whole_file, whole_folder, write_whole
from .seeds import derived_seed
from .wording import counted

__all__ = [
    "ExpectedError",
    "UsageError",
    "clear_unfinished",
    "counted",
    "derived_seed",
    "largest_remainder",
    "whole_file",
    "whole_folder",
    "write_whole",
]
