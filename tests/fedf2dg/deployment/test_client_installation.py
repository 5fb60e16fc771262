"""A client needs little: one process is started for every message, on machines of any kind."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {
    "datasets",
    "matplotlib",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "sklearn",
    "torchvision",
}


TRAINING = """
import sys
import torch
before = "torch._dynamo" in sys.modules
from client_app.training import train_locally
from foundation.settings.configuration import RunConfiguration
from generation import forward_operations
from foundation.models import build
from strategies.client import ClientAlgorithm

class Source:
    def epoch(self, generator):
        yield torch.zeros(4, 1, 8, 8), torch.arange(4)

model = build("resnet8", classes=4, channels=1, image_size=8, seed=0)
forward_operations(model, (1, 8, 8))
plan = ClientAlgorithm(RunConfiguration.parse({"local-epochs": 2}))
print(train_locally(model, Source(), plan, generator=torch.Generator()).steps)
print(before, "torch._dynamo" in sys.modules)
"""


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_client_process_imports_nothing_heavy_but_torch() -> None:
    loaded = run("import sys, client_app.app; print(*{n.split('.')[0] for n in sys.modules})")
    assert "torch" in loaded
    assert not HEAVY & set(loaded)


def test_training_does_not_load_the_compiler() -> None:
    """It would be a third of the processor time of a client's process."""
    steps, before, after = run(TRAINING)
    assert steps == "2"
    assert after == before


def test_the_clients_requirements_are_part_of_the_apps() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    everything = {line.replace("[simulation]", "") for line in project["dependencies"]}
    lines = (ROOT / "fedf2dg/deployment/client-requirements.txt").read_text("utf-8").splitlines()
    clients = {line for line in lines if re.match(r"\w", line)}
    assert clients
    assert clients <= everything
