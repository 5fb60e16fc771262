"""The ground that every room stands on: errors, whole files, seeds, shares, progress.

It imports nothing of this project, and what needs numpy or torch is imported from its own file, so
that the command starts at once.
"""

from .errors import (
    ConfigurationError,
    ExpectedError,
    UsageError,
    only_warned,
    say_expected_errors_plainly,
)
from .files import clear_unfinished, whole_file, whole_folder, write_whole
from .progress import ProgressLog
from .wording import counted

__all__ = [
    "ConfigurationError",
    "ExpectedError",
    "ProgressLog",
    "UsageError",
    "clear_unfinished",
    "counted",
    "only_warned",
    "say_expected_errors_plainly",
    "whole_file",
    "whole_folder",
    "write_whole",
]
