"""Plans read as the command reads them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fedf2dg.compare import Plan, read_plan
from server_app import preflight

TINY = (
    "num-clients=2",
    "train-samples=200",
    "dirichlet-alpha=1.0",
    "num-server-rounds=1",
    "local-epochs=1",
    "batch-size=64",
    "generation.iterations=3",
    "generation.images-per-client=4",
    "distillation.epochs=1",
)


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """Return a function that reads a plan from arguments and the text of a TOML file."""

    def read(*arguments: str, toml: str | Sequence[str] = (), baseline: str = "") -> Plan:
        files = []
        for number, text in enumerate([toml] if isinstance(toml, str) else toml):
            files.append(tmp_path / f"{number}.toml")
            files[-1].write_text(text, encoding="utf-8")
        return read_plan(files, arguments, preflight.parse, baseline)

    return read


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Return settings of a run that takes a second or two."""
    return TINY
