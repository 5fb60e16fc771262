"""Whether inversion in bfloat16 ends where float32 does, on trained models.

``python -m benchmarks.precision RUN_DIR…`` takes finished runs (those of ``fedf2dg simulate
stages=train`` are enough) and inverts their local models from the same noise in both precisions,
and in float32 from other noise with labels drawn anew, to see what chance alone does. Each set of
images is distilled into the run's global model, everything else as the run was configured.
Objectives are evaluated in float32 on the images made. Accuracies on the test set are reported, not
selected on.
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
from distillation import distil
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.models import Classifier, load_state
from foundation.models.evaluation import Evaluator
from foundation.seeds import GENERATION, derived_seed
from foundation.settings import Compile, Precision
from foundation.settings.configuration import RunConfiguration
from generation import Generation, budgets, generate
from questions.pseudo_images import pixel_range
from server_app.run import Run

# (precision, which noise to start from): the last shows what chance alone does to the result.
WAYS: dict[str, tuple[Precision, int]] = {
    "float32": ("float32", 0),
    "bfloat16": ("bfloat16", 0),
    "float32, other noise": ("float32", 1),
}


@dataclass(frozen=True)
class Result:
    """What one way came to on one run."""

    generation: Generation
    accuracy: float
    seconds: float

    def report(self, plain: "Result") -> str:
        objectives = plain.generation.objectives
        deviations = [self.generation.objectives[c] / objectives[c] - 1 for c in objectives]
        return (
            f"objective {self.generation.objective:.4g}"
            f" ({self.generation.objective / plain.generation.objective - 1:+.2%};"
            f" clients {min(deviations):+.1%} to {max(deviations):+.1%}),"
            f" distilled {self.accuracy:.2%}, inverted in {self.seconds:.0f} s"
        )


def main(arguments_given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    arguments = parser.parse_args(arguments_given)
    print(", ".join(f"{k} {v}" for k, v in machine(torch.device("cpu")).items()), flush=True)
    found: list[dict[str, Result]] = []
    for run in arguments.runs:
        federated, results = compare(run, arguments.compile)
        found.append(results)
        print(f"{run.name}: federated {federated:.2%}", flush=True)
        for way, result in results.items():
            print(f"  {way:<22}{result.report(results['float32'])}", flush=True)
    for way in list(WAYS)[1:]:
        paired = [results[way].accuracy - results["float32"].accuracy for results in found]
        print(
            f"distilled accuracy, {way} against float32: mean {statistics.fmean(paired):+.2%} "
            f"({min(paired):+.2%} to {max(paired):+.2%}), runs: {len(found)}"
        )


def compare(run: Path, compilation: Compile) -> tuple[float, dict[str, Result]]:
    """Invert and distil a run's last local models in every way.

    Returns
    -------
    tuple
        The federated model's accuracy, and what each way came to.
    """
    settings = json.loads((run / "config.json").read_text("utf-8"))["configuration"]
    configuration = RunConfiguration.parse({**settings, "stages": "train", "resume-from": ""})
    with tempfile.TemporaryDirectory(prefix="fedf2dg-precision-") as folder:
        copied = Path(shutil.copytree(run, Path(folder, "run")))
        grid = LocalGrid(client_app, configuration.num_clients, configuration.flat())
        with Run(grid, configuration, copied) as trained:
            trained.resume()
            trained.clients.meet(trained.journal.state)
            inversion = _Inversion(trained)
            results = {
                way: inversion.carry_out(precision, noise, compilation)
                for way, (precision, noise) in WAYS.items()
            }
            return inversion.evaluator(trained.model.copy()).accuracy, results


class _Inversion:
    """The stages generate and distil of a run, without its files."""

    def __init__(self, trained: Run) -> None:
        self.trained = trained
        self.evaluator: Evaluator = trained.measuring.evaluator
        configuration = trained.configuration
        self.clients = list(trained.strategy.last_local_models())
        examples = [trained.clients.participants[client].num_examples for client in self.clients]
        self.budgets = budgets(
            configuration.generation.images_per_client * len(self.clients), examples, None
        )
        counts = trained.clients.label_counts(self.clients)
        self.label_counts = (
            None if counts is None else dict(enumerate(counts[c] or [1] for c in self.clients))
        )

    def carry_out(self, precision: Precision, noise: int, compilation: Compile) -> Result:
        trained, configuration = self.trained, self.trained.configuration
        description = trained.description
        settings = configuration.generation
        started = time.perf_counter()
        generation = generate(
            self._reader(),
            budgets=dict(enumerate(self.budgets)),
            label_counts=self.label_counts,
            image_shape=description.image_shape,
            settings=replace(settings, precision=precision, compile=compilation),
            pixel_range=pixel_range(configuration, description),
            classes=description.classes,
            seed=derived_seed(configuration.seed, GENERATION, noise),
            device=trained.model.device,
            workers=trained.pool.workers(len(self.clients), float("inf")),
        )
        seconds = time.perf_counter() - started
        distilled = distil(
            trained.model.copy(),
            generation.data.images,
            generation.data.logits,
            configuration.distillation,
            seed=configuration.seed,
            device=trained.model.device,
        )
        accuracy = self.evaluator(distilled.model.to(trained.model.device)).accuracy
        return Result(generation, accuracy, seconds)

    def _reader(self) -> Callable[[int], Classifier]:
        shell = self.trained.model.copy()

        def read(position: int) -> Classifier:
            client = self.clients[position]
            load_state(shell, self.trained.strategy.local_models.read(client))
            return shell

        return read


if __name__ == "__main__":
    main()
