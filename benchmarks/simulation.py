"""Simulation: the local engine against a bare loop; memory with many clients; Flower's engine."""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.bare_loop import federated_averaging
from benchmarks.measure import Comparison, Timed, Variant, alternate, now
from benchmarks.memory import PeakMemory
from client_app.app import app as client_app
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.models import State, cpu_state
from foundation.settings.configuration import RunConfiguration
from server_app.run import Run
from server_app.run_directory import prepare

REPEATS = 5

# (clients, training images, rounds); 0: all images
LOOPS = {"tiny": (2, 40, 1), "small": (10, 0, 2), "full": (10, 0, 10)}

# (engine, clients, sampled fraction, images of each client, rounds); the last is the crowd.
CROWDS = {
    "tiny": [("local", 4, 0.5, 10, 2)],
    "small": [
        (engine, *crowd)
        for engine in ("local", "flower")
        for crowd in ((10, 1.0, 20, 6), (10, 1.0, 2000, 6), (1000, 0.01, 20, 6))
    ],
    "full": [
        (engine, *crowd)
        for engine in ("local", "flower")
        for crowd in ((10, 1.0, 20, 20), (10, 1.0, 2000, 20), (1000, 0.01, 20, 20))
    ],
}

REPOSITORY = Path(__file__).resolve().parent.parent


def run(size: str, device: torch.device) -> Iterator["Comparison | Process"]:
    """Measure loop and crowd, and at the full size Flower's engine."""
    yield _compare(*LOOPS[size], device=device)
    with tempfile.TemporaryDirectory(prefix="fedf2dg-crowd-") as folder:
        images = max(clients * part for _, clients, _, part, _ in CROWDS[size])
        write_pictures(Path(folder, "data"), images)
        for crowd in CROWDS[size]:
            yield _crowd(Path(folder), *crowd, device=device)
    if size == "full":
        for engine in ("local", "flower"):
            yield _engine(engine, device)


# ------------------------------------------------------------------------------ loop against engine


def local_engine(configuration: RunConfiguration) -> tuple[float, State]:
    """Carry out the federated rounds on the local engine.

    Returns
    -------
    tuple
        Seconds of all rounds with their checkpoints, without the set-up; and the global model.
    """
    grid = LocalGrid(client_app, configuration.num_clients, configuration.flat())
    run = Run(grid, configuration, prepare(configuration))
    run.clients.meet(run.journal.state)
    start = now()
    run.train()
    return now() - start, run.model.state


def bare_loop(configuration: RunConfiguration) -> tuple[float, State]:
    """Do the same training, averaging and evaluation with nothing around it."""
    federation = federated_averaging(configuration)
    return federation.seconds, cpu_state(federation.model)


def loop_configuration(
    clients: int, images: int, rounds: int, device: torch.device, output: Path
) -> RunConfiguration:
    """Federated rounds on the digits as the embedded job makes them, with plain averaging."""
    return RunConfiguration.parse(
        {
            "strategy": "fedavg",
            "num-clients": clients,
            "train-samples": images,
            "num-server-rounds": rounds,
            "partition": "iid",
            "stages": "train",
            "post-training": "none",
            "device": device.type,
            "output-dir": str(output),
        }
    )


def _compare(clients: int, images: int, rounds: int, *, device: torch.device) -> Comparison:
    def per_round(work: Callable[[RunConfiguration], tuple[float, State]]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "run")
            return work(loop_configuration(clients, images, rounds, device, output))[0] / rounds

    ways: dict[str, Timed] = {
        "bare loop": partial(per_round, bare_loop),
        "local engine": partial(per_round, local_engine),
    }
    return Comparison(
        stage="simulation",
        setup=f"digits, {clients} clients with equal parts, 5 local epochs, resnet8",
        unit="round",
        variants=[
            Variant(way, seconds, first)
            for way, (seconds, first) in alternate(ways, REPEATS).items()
        ],
    )


# ------------------------------------------------------------------------------- whole processes


@dataclass(frozen=True)
class Process:
    """A whole run as a command, by the wall clock."""

    stage: str
    setup: str
    seconds: float
    """From start to end, everything included."""
    rounds: list[float]
    """Seconds of every round but the first, which loads the data."""
    peak: int
    """Largest memory of all its processes together, in bytes; 0 where the system does not tell."""

    def report(self) -> str:
        memory = f", peak memory {self.peak / 1e9:.2f} GB" if self.peak else ""
        rounds = ""
        if self.rounds:
            spread = f"{min(self.rounds):.3g} to {max(self.rounds):.3g}"
            rounds = f", {median(self.rounds):.3g} s per round ({spread})"
        return f"{self.stage}: {self.setup}\n  {self.seconds:.1f} s in all{rounds}{memory}"

    def record(self) -> dict[str, Any]:
        return asdict(self)


def write_pictures(directory: Path, count: int) -> None:
    """Write random 32x32 pictures of ten classes as CIFAR-10's files."""
    random = np.random.default_rng(0)
    for split, images in (("train", count), ("test", 100)):
        pixels = random.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
        column = pa.array(
            [{"bytes": _png(picture), "path": None} for picture in pixels],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        )
        directory.mkdir(parents=True, exist_ok=True)
        table = pa.table({"img": column, "label": np.arange(images) % 10})
        pq.write_table(table, directory / f"{split}.parquet")


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def _crowd(
    folder: Path,
    engine: str,
    clients: int,
    fraction: float,
    part: int,
    rounds: int,
    *,
    device: torch.device,
) -> Process:
    settings = {
        "strategy": "fedavg",
        "dataset": "cifar10",
        "data-dir": folder / "data",
        "num-clients": clients,
        "fraction-train": fraction,
        "train-samples": clients * part,
        "partition": "iid",
        "num-server-rounds": rounds,
        "local-epochs": 1,
        "stages": "train",
        "post-training": "none",
        "device": device.type,
    }
    setup = (
        f"{engine} engine, {clients} clients of {part} images of 3x32x32, "
        f"{clients * fraction:.0f} in each of {rounds} rounds, resnet8"
    )
    output = folder / f"{engine}-{clients}-{part}"
    return _process("memory", setup, engine, settings, output, folder)


def _engine(engine: str, device: torch.device) -> Process:
    """Carry out the embedded job as ``fedf2dg simulate`` does."""
    with tempfile.TemporaryDirectory(prefix="fedf2dg-engine-") as folder:
        settings = {"device": device.type}
        setup = f"{engine} engine, the whole embedded job"
        return _process("engine", setup, engine, settings, Path(folder, "run"), Path(folder))


def _process(
    stage: str, setup: str, engine: str, settings: dict[str, Any], output: Path, folder: Path
) -> Process:
    command = [sys.executable, "-m", "fedf2dg", "simulate", "--engine", engine]
    command += ["--output", str(output), *(f"{key}={value}" for key, value in settings.items())]
    start = time.perf_counter()
    with PeakMemory() as memory, (folder / "log.txt").open("wb") as log:
        environment = {
            **os.environ,
            **memory.environment,
            "PYTHONPATH": str(REPOSITORY),
            "FEDF2DG_CACHE": str(folder / "cache"),
        }
        status = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    seconds = time.perf_counter() - start
    if status:
        tail = (folder / "log.txt").read_text("utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {status}:\n{tail}")
    lines = (output / "metrics.jsonl").read_text("utf-8").splitlines()
    rounds = [e["seconds"] for e in map(json.loads, lines) if e["event"] == "round"]
    return Process(stage, setup, seconds, rounds[1:], memory.bytes)
