"""What costs nothing loads nothing: help and refusals come before torch and Flower."""

import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_file_that_hides_the_ground_of_the_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "foundation.py").write_text("x = 1\n")
    done = subprocess.run(
        [sys.executable, "-c", "import fedf2dg"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"ImportError: {tmp_path / 'foundation.py'} hides") and "another" in said
