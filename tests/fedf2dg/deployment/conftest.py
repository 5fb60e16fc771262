"""A real deployment that ends with its test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.loopback import Deployment


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Callable[[int], Deployment]]:
    """Return a function that prepares a deployment for so many SuperNodes; it is ended here."""
    made: list[Deployment] = []

    def prepare(nodes: int) -> Deployment:
        made.append(Deployment(tmp_path, nodes))
        return made[-1]

    yield prepare
    for deployment in made:
        deployment.close()
