"""A client needs little: one process is started for every message, on machines of any kind."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "datasets",
    "flwr_datasets",
    "matplotlib",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "sklearn",
    "torchvision",
}


def test_a_client_process_imports_nothing_heavy_but_torch() -> None:
    program = "import sys, client_app.app; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(done.stdout.split())


def test_the_clients_requirements_are_part_of_the_apps() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    everything = {line.replace("[simulation]", "") for line in project["dependencies"]}
    lines = (ROOT / "deployment" / "client-requirements.txt").read_text("utf-8").splitlines()
    clients = {line for line in lines if re.match(r"\w", line)}
    assert clients
    assert clients <= everything
