"""Whether inversion in bfloat16 ends where float32 does, on trained models.

``python -m benchmarks.precision RUN_DIR…`` takes finished runs (those of ``fedf2dg simulate
stages=train`` are enough), inverts their local models from the same noise in both precisions, and
distils each set of images into their global model, everything else as the runs were configured.
Both objectives are evaluated in float32 on the images made. Accuracies on the test set are
reported, not selected on.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.measure import machine
from client_app.app import app as client_app
from configuration import RunConfiguration
from distillation import DistillationSettings, distil
from generation import Generation, InversionSettings, budgets, generate
from generation.settings import Compile, Precision
from models import Classifier, load_state
from server_app.evaluation import Evaluator
from server_app.federation import Federation
from simulation import LocalGrid
from strategies.pixel_range import pixel_range

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Result:
    """What one precision came to on one run."""

    generation: Generation
    accuracy: float
    seconds: float


def main(arguments_given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    arguments = parser.parse_args(arguments_given)
    print(", ".join(f"{k} {v}" for k, v in machine(torch.device("cpu")).items()), flush=True)
    differences = []
    for run in arguments.runs:
        federated, results = compare(run, arguments.compile)
        plain, reduced = (results[precision] for precision in PRECISIONS)
        deviations = [
            reduced.generation.objectives[client] / objective - 1
            for client, objective in plain.generation.objectives.items()
        ]
        differences.append(reduced.accuracy - plain.accuracy)
        print(
            f"{run.name}: objective {plain.generation.objective:.4g} in float32, bfloat16 "
            f"{reduced.generation.objective / plain.generation.objective - 1:+.2%} "
            f"(clients: {min(deviations):+.2%} to {max(deviations):+.2%}); "
            f"accuracy {federated:.2%} federated, distilled {plain.accuracy:.2%} and "
            f"{reduced.accuracy:.2%}; inverted in {plain.seconds:.0f} and {reduced.seconds:.0f} s",
            flush=True,
        )
    print(
        f"distilled accuracy, bfloat16 against float32: mean {statistics.fmean(differences):+.2%} "
        f"({min(differences):+.2%} to {max(differences):+.2%}), runs: {len(differences)}"
    )


def compare(run: Path, compilation: Compile) -> tuple[float, dict[Precision, Result]]:
    """Invert and distil a run's last local models in every precision.

    Returns
    -------
    tuple
        The federated model's accuracy, and what each precision came to.
    """
    settings = json.loads((run / "config.json").read_text("utf-8"))["configuration"]
    configuration = RunConfiguration.parse({**settings, "stages": "train", "resume-from": ""})
    with tempfile.TemporaryDirectory(prefix="fedf2dg-precision-") as folder:
        copied = Path(shutil.copytree(run, Path(folder, "run")))
        grid = LocalGrid(client_app, configuration.num_clients, configuration.flat())
        with Federation(grid, configuration, copied) as federation:
            federation.resume()
            federation.meet_clients()
            inversion = _Inversion(federation)
            results = {
                precision: inversion.carry_out(precision, compilation) for precision in PRECISIONS
            }
            return inversion.evaluator(federation.global_model()).accuracy, results


class _Inversion:
    """The stages generate and distil of a run, without its files."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.evaluator: Evaluator = federation.evaluator
        configuration = federation.configuration
        self.clients = list(federation.strategy.last_local_models())
        examples = [federation.participants[client].num_examples for client in self.clients]
        self.budgets = budgets(
            configuration.generation.images_per_client * len(self.clients), examples, None
        )
        counts = federation.label_counts(self.clients)
        self.label_counts = (
            None if counts is None else [counts[client] or [1] for client in self.clients]
        )

    def carry_out(self, precision: Precision, compilation: Compile) -> Result:
        federation, configuration = self.federation, self.federation.configuration
        description = federation.description
        settings = InversionSettings(**configuration.inversion("common"))
        started = time.perf_counter()
        generation = generate(
            self._reader(),
            budgets=self.budgets,
            label_counts=self.label_counts,
            image_shape=(description.channels, *description.image_size),
            settings=replace(settings, precision=precision, compile=compilation),
            pixel_range=pixel_range(configuration, description),
            classes=description.classes,
            seed=configuration.seed,
            device=federation.device,
            workers=federation.workers(len(self.clients), float("inf")),
        )
        seconds = time.perf_counter() - started
        given = vars(configuration.distillation)
        distilled = distil(
            federation.global_model(),
            generation.data.images,
            generation.data.logits,
            DistillationSettings(**given),
            seed=configuration.seed,
            device=federation.device,
        )
        accuracy = self.evaluator(distilled.model.to(federation.device)).accuracy
        return Result(generation, accuracy, seconds)

    def _reader(self) -> Callable[[int], Classifier]:
        shell = self.federation.global_model().eval()

        def read(position: int) -> Classifier:
            client = self.clients[position]
            load_state(shell, self.federation.strategy.local_models.read(client))
            return shell

        return read


if __name__ == "__main__":
    main()
