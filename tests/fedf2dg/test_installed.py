"""The wheel, installed outside of any checkout, beside files of a user's that have common names."""

import json
import os
import subprocess
import sys
import zipfile
from io import StringIO
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("installed")]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "flower_app" / "digits_app"
FOREIGN = (
    *("models", "settings", "configuration", "processes", "protocol", "reporting", "data"),
    *("utils", "task", "strategies/__init__", "generation/__init__"),
)
TINY = {
    "num-clients": 2,
    "train-samples": 60,
    "dirichlet-alpha": 1.0,
    "num-server-rounds": 1,
    "local-epochs": 1,
    "generation.images-per-client": 4,
    "generation.iterations": 2,
    "distillation.epochs": 1,
    "competition.rounds": 1,
}
KEYS = [f"{name}={value}" for name, value in TINY.items()]
COMMAND = "import sys; from fedf2dg.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds what the wheel holds."""
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-q"),
            *("-w", str(place), str(ROOT)),
        ],
        check=True,
    )
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(place / "site")
    return place / "site"


def python(installed: Path, folder: Path, *arguments: str, **variables: str) -> str:
    """Run Python on the installation, in a folder; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def write_foreign(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"raise RuntimeError('{name}.py of the user was imported')\n")


RUN = """
import sys
from pathlib import Path
from fedf2dg import *
from fedf2dg import from_flower, load_model, simulate, RunConfiguration
if __name__ == "__main__":
    import fedf2dg
    assert Path(fedf2dg.__file__).parent == Path(sys.argv[1], "fedf2dg"), fedf2dg.__file__
    values = dict(pair.split("=") for pair in sys.argv[2:])
    keys = {k: float(v) if "." in v else int(v) for k, v in values.items()}
    keys |= {"processes": 2, "output-dir": "run", "strategy": "own_members:mine",
             "model": "own_members:net"}
    summary = simulate(RunConfiguration.parse(keys))
    assert summary["status"] == "completed", summary
    import numpy as np
    print("predicted", load_model("run").predict(np.zeros((8, 8), np.uint8)))
    from flwr.serverapp.strategy import FedAvg
    print(from_flower("x", lambda run: FedAvg()).name)
"""
MEMBERS = """
from flwr.serverapp.strategy import FedAvg
from torch import nn
from fedf2dg import from_flower
mine = from_flower("mine", lambda run: FedAvg())
def net(channels, size):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten()), 4
"""


def test_a_script_runs_beside_files_of_all_those_names(installed: Path, tmp_path: Path) -> None:
    """Whole runs, too, in processes of their own, with members of the user's own."""
    write_foreign(tmp_path, *FOREIGN, "client_app", "server_app")
    (tmp_path / "script.py").write_text(RUN)
    (tmp_path / "own_members.py").write_text(MEMBERS)
    said = python(installed, tmp_path, "script.py", str(installed), *KEYS)
    assert "predicted" in said and said.endswith("x\n")


IN_PROCESS = """
from flwr.app import Context
import fedf2dg
import client_app, server_app
from foundation.members import HiddenPackage
try:
    fedf2dg.simulate
except HiddenPackage as error:
    assert "client_app.py" in str(error) and "another name" in str(error), error
else:
    raise AssertionError("two packages of one name")
print(fedf2dg.post_train, fedf2dg.KeepLocalModels, fedf2dg.AskClients, fedf2dg.load_model)
"""


def write_flower_app(folder: Path) -> None:
    """Write the example as Flower's templates do: modules at the top, and foreign ones beside."""
    write_foreign(folder, *FOREIGN)
    for source, name in (("client", "client_app"), ("server", "server_app"), ("task", "task")):
        text = (EXAMPLE / f"{source}.py").read_text("utf-8")
        (folder / f"{name}.py").write_text(text.replace("from .task", "from task"), "utf-8")
    pyproject = (EXAMPLE.parent / "pyproject.toml").read_text("utf-8")
    for side in ("client", "server"):
        pyproject = pyproject.replace(f"digits_app.{side}:", f"{side}_app:")
    (folder / "pyproject.toml").write_text(pyproject, "utf-8")


def test_an_app_with_server_app_and_client_app_of_its_own_uses_the_library(
    installed: Path, tmp_path: Path
) -> None:
    write_flower_app(tmp_path)
    (tmp_path / "start.py").write_text(IN_PROCESS)
    assert "post_train" in python(installed, tmp_path, "start.py")


@pytest.mark.xdist_group("ray")
def test_such_an_app_runs_under_flwr(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedf2dg.simulation.flower_engine import run_through_flower

    write_flower_app(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    keys = {"num-server-rounds": 1, "local-epochs": 1, "iterations": 2, "ask": True}
    run_through_flower(keys, 2, StringIO(), tmp_path / "run.log", app=tmp_path)
    said = (tmp_path / "run.log").read_text("utf-8")
    assert "federated: " in said and "post-trained: " in said


def test_the_command_needs_nothing_but_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Presets by name, a comparison, reports and predictions, beside any types.py."""
    write_foreign(tmp_path, *FOREIGN, "client_app", "server_app", "types", "json", "torch")
    commands = [
        ["simulate", "--engine", "local", "--config", "one_shot_digits", *KEYS, "--output=run"],
        ["report", "run"],
        ["predict", "run", "run/pseudo_data/grid.png", "--csv"],
        ["compare", *KEYS, "strategy=fedavg", "seed=0", "stages=train", "--output=compared"],
    ]
    program = f"from fedf2dg.cli import main\nfor each in {commands}: assert main(each) == 0, each"
    python(installed, tmp_path, "-P", "-c", program)
    configuration = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert configuration["configuration"]["dataset"] == "digits"
    assert (tmp_path / "compared" / "comparison.html").is_file()


@pytest.mark.xdist_group("ray")
def test_the_engine_flower_needs_no_checkout(installed: Path, tmp_path: Path) -> None:
    """Not even a member of the user's own, which is imported from the folder of the command."""
    (tmp_path / "own_members.py").write_text(MEMBERS)
    own = ("strategy=own_members:mine", "stages=train", "--output=run")
    python(installed, tmp_path, "-P", "-c", COMMAND, "simulate", *KEYS, *own)
    assert (tmp_path / "run" / "summary.json").is_file()


def test_a_preset_that_there_is_not_is_answered_with_those_there_are(
    installed: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMMAND, "simulate", "--config", "photograph"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Did you mean 'photographs'?" in done.stderr
