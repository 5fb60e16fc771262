"""What costs nothing loads nothing: help and refusals come before torch and Flower."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedf2dg.known_names import known_names
from foundation.data import SOURCES
from foundation.models import MODELS, TIMM
from post_training import methods
from strategies import algorithms

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
from fedf2dg import cli
try:
    status = cli.main(sys.argv[1:])
except SystemExit as end:
    status = end.code
heavy = {"torch", "flwr", "ray", "numpy", "matplotlib", "torchvision"} & sys.modules.keys()
print("loaded:", sorted(heavy))
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["simulate", "--help"], 0),
        (["compare", "--help"], 0),
        (["predict", "--help"], 0),
        (["export", "--help"], 0),
        (["keys"], 0),
        (["simulate", "strategy=nope"], 2),
        (["simulate", "--engine", "local", "model=nope"], 2),
        (["simulate", "dataset=nope"], 2),
        (["simulate", "post-training=nope"], 2),
        (["simulate", "learning-rate=-1"], 2),
        (["simulate", "--engine", "local", "stages=distil"], 2),
        (["simulate", "nothing=1"], 2),
    ],
)
def test_help_and_refusals_load_nothing_heavy(
    arguments: list[str], status: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert (status == 2) == done.stderr.startswith("error: ")


def test_names_that_are_read_from_files_are_those_of_the_registries() -> None:
    assert known_names() == {
        "strategy": tuple(sorted(algorithms())),
        "post-training": tuple(sorted(methods())),
        "model": tuple(sorted([*MODELS, TIMM])),
        "dataset": tuple(sorted(SOURCES)),
    }


def test_where_a_name_is_computed_the_registry_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedf2dg import known_names as module

    (tmp_path / "one.py").write_text('algorithm = Algorithm("one", A, B)\n')
    (tmp_path / "broken.py").write_text("algorithm = (\n")
    monkeypatch.setattr(module, "_folder", lambda package: tmp_path)
    assert module._declared_in("strategies", "algorithm") == ["one"]
    (tmp_path / "two.py").write_text("algorithm = Algorithm(NAME, A, B)\n")
    assert module._declared_in("strategies", "algorithm") == []


def test_names_that_are_added_line_by_line_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedf2dg import known_names as module

    (tmp_path / "registry.py").write_text(
        'MODELS: dict[str, int] = {"a": 1, **{name: 2 for name in MORE}}\nMODELS["b"] = 3\n'
    )
    (tmp_path / "more.py").write_text('MORE = {"c": 4}\n')
    (tmp_path / "own.py").write_text('from .registry import MODELS\nMODELS["d"] = 5\n')
    monkeypatch.setattr(module, "_folder", lambda package: tmp_path)
    assert sorted(module._keys("models", "MODELS")) == ["a", "b", "c", "d"]
    for computed in (
        "MODELS.update(x=1)",
        "MODELS[NAME] = 1",
        "for name in NAMES:\n    MODELS[name] = 1",
        "MODELS |= OTHER",
        "MODELS = dict(a=1)",
    ):
        (tmp_path / "late.py").write_text(computed)
        assert module._keys("models", "MODELS") == [], computed
