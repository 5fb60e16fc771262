"""The ground that every room stands on: errors, whole files, seeds, shares, progress.

It imports nothing of this project, and what needs numpy or torch is imported from its own file, so
that the command starts at once.
"""

from .errors import ConfigurationError as ConfigurationError
from .errors import ExpectedError as ExpectedError
from .errors import UsageError as UsageError
from .errors import only_warned as only_warned
from .errors import say_expected_errors_plainly as say_expected_errors_plainly
from .files import clear_unfinished as clear_unfinished
from .files import whole_file as whole_file
from .files import whole_folder as whole_folder
from .files import write_whole as write_whole
from .progress import ProgressLog as ProgressLog
from .wording import counted as counted
