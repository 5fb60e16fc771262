"""Made-up runs for the pages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import made_up_runs


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Return the function that writes a run's directory."""
    return made_up_runs.write_run
