"""Whole runs at a tiny size, in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

TINY = {
    "num-clients": 3,
    "train-samples": 90,
    "dirichlet-alpha": 1.0,
    "num-server-rounds": 3,
    "local-epochs": 1,
    "learning-rate": 0.05,
    "generation.images-per-client": 4,
    "generation.iterations": 3,
    "distillation.epochs": 2,
}
#: Differs from run to run however equal the runs are.
CLOCKS = {"time", "seconds", "image_iterations_per_second"}


class RunResult:
    """What a run left behind, without the clocks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def model(self) -> dict[str, Any]:
        return load_file(self.directory / "checkpoints" / self.steps()[-1] / "global.safetensors")

    def steps(self) -> list[str]:
        folders = (self.directory / "checkpoints").iterdir()
        return sorted(path.name for path in folders if path.name[:4].isdigit())

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        lines = (self.directory / "metrics.jsonl").read_text("utf-8").splitlines()
        events = [timeless(json.loads(line)) for line in lines]
        return [event for event in events if kind in ("", event["event"])]

    def summary(self) -> dict[str, Any]:
        return timeless(json.loads((self.directory / "summary.json").read_text("utf-8")))

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.directory)) for p in self.directory.rglob("*"))

    def pseudo_data(self) -> dict[str, Any]:
        """Return file name to tensors as lists, which compare."""
        folder = self.directory / "pseudo_data"
        return {
            path.name: {name: value.tolist() for name, value in load_file(path).items()}
            for path in sorted(folder.glob("*.safetensors"))
        }


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in CLOCKS}
    return value


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., RunResult]:
    """Return a function that carries out a run into a folder of that name."""
    from fedf2dg.simulation.local_run import run_locally
    from server_app import preflight

    def carry_out(name: str, **keys: Any) -> RunResult:
        values = {k.replace("__", ".").replace("_", "-"): v for k, v in keys.items()}
        configuration = preflight.parse({**TINY, "output-dir": str(tmp_path / name), **values})
        preflight.check(configuration, simulated=True)
        run_locally(configuration)
        return RunResult(tmp_path / name)

    return carry_out


@pytest.fixture
def result_in(tmp_path: Path) -> Callable[[str], RunResult]:
    """Return a function that reads what is in a run's folder, finished or not."""
    return lambda name: RunResult(tmp_path / name)
