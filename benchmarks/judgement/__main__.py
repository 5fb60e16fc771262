"""Run the study: ``python -m benchmarks.judgement collect …``, then ``simulate FOLDER``.

``collect`` trains nothing: it takes the models of finished runs, makes five results of
post-training of each, and writes down which test images every candidate classifies correctly.
``simulate`` draws held-out images from these answers and prints, for every rule, the mean true gain
in points, the share of draws that end more than one point worse, and the share that keep λ = 0.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .candidates import correct_images, read_base, read_run
from .photographs import tables
from .rules import RULES, Outcome, try_rules

SHARES = (0.05, 0.1, 0.2)
DRAWS = 1000
NOT_RESULTS = ("labels", "counts", "federated")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgement", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    collect = commands.add_parser("collect", help="make the candidates of federations")
    collect.add_argument("--run", type=Path, action="append", default=[], help="run's directory")
    collect.add_argument("--base", type=Path, action="append", default=[])
    collect.add_argument("--data-dir", default="", help="CIFAR-10, for the bases")
    collect.add_argument("--output", type=Path, required=True, help="a folder")
    photographs = commands.add_parser("photographs", help="heads on a frozen encoder's features")
    photographs.add_argument("data_dir")
    photographs.add_argument("--side", type=int, default=128)
    photographs.add_argument("--clients", type=int, default=3)
    photographs.add_argument("--alpha", type=float, default=0.5)
    photographs.add_argument("--seeds", type=int, default=5)
    photographs.add_argument("--output", type=Path, required=True, help="a folder")
    simulate = commands.add_parser("simulate", help="try the rules on them")
    simulate.add_argument("folder", type=Path)
    simulate.add_argument(
        "--examples", type=int, default=10_000, help="most training images; shares are of these"
    )
    arguments = parser.parse_args()
    if arguments.command == "simulate":
        _simulate(arguments.folder, arguments.examples)
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.command == "photographs":
        chosen = (arguments.data_dir, arguments.side, arguments.clients, arguments.alpha)
        for name, table in tables(*chosen, arguments.seeds).items():
            _write(arguments.output, name, table)
        return
    federations = [read_run(run) for run in arguments.run]
    federations += [read_base(base, arguments.data_dir) for base in arguments.base]
    for federation in federations:
        started = time.perf_counter()
        table = correct_images(federation)
        _write(arguments.output, federation.name, table)
        print(f"{time.perf_counter() - started:.0f} s", flush=True)


def _write(folder: Path, name: str, table: Mapping[str, Any]) -> None:
    np.savez_compressed(folder / f"{name}.npz", **table)
    print(name, flush=True)
    for result, flags in table.items():
        if flags.dtype == np.bool_:
            accuracies = np.atleast_2d(flags).mean(1)
            print(f"  {result}: " + " ".join(f"{100 * a:.1f}" for a in accuracies), flush=True)


def _simulate(folder: Path, examples: int) -> None:
    """Print outcomes by result of post-training, rule and share, means over the federations."""
    outcomes: dict[tuple[str, str, float], list[Outcome]] = defaultdict(list)
    for file in sorted(folder.glob("*.npz")):
        table = dict(np.load(file))
        # As if a larger federation held so many training images.
        scale = min(1.0, examples / table["counts"].sum())
        for result in (name for name in table if name not in NOT_RESULTS):
            for share in SHARES:
                images, true, found = try_rules(table, result, scale * share, RULES, draws=DRAWS)
                for rule, outcome in found.items():
                    outcomes[result, rule, share].append(outcome)
            gains = " ".join(f"{gain:+.1f}" for gain in true)
            print(f"{file.stem}, {result}: {gains} ({images} images at share {share:g})")
    for result in dict.fromkeys(result for result, _, _ in outcomes):
        print(f"\n{result}: mean gain, worse by more than a point, kept, at {SHARES}")
        for rule in RULES:
            cells = (outcomes[result, rule, share] for share in SHARES)
            print(f"  {rule:26s}" + "  |  ".join(_mean(cell) for cell in cells))


def _mean(outcomes: list[Outcome]) -> str:
    gain, harm, kept = np.array([[o.gain, o.harm, o.kept] for o in outcomes]).mean(0)
    return f"{gain:+6.2f} {100 * harm:5.1f} % {100 * kept:4.0f} %"


if __name__ == "__main__":
    main()
