"""Run the study: ``python -m benchmarks.judgement collect …``, then ``simulate …``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from .candidates import correct_images, read_base, read_run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgement", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    collect = commands.add_parser("collect", help="make the candidates of federations")
    collect.add_argument("--run", type=Path, action="append", default=[], help="with hook=none")
    collect.add_argument("--base", type=Path, action="append", default=[])
    collect.add_argument("--data-dir", default="", help="CIFAR-10, for the bases")
    collect.add_argument("--output", type=Path, required=True, help="a folder")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    federations = [read_run(run) for run in arguments.run]
    federations += [read_base(base, arguments.data_dir) for base in arguments.base]
    for federation in federations:
        started = time.perf_counter()
        table = correct_images(federation)
        np.savez_compressed(arguments.output / f"{federation.name}.npz", **table)
        print(f"{federation.name}: {time.perf_counter() - started:.0f} s", flush=True)
        for name, flags in table.items():
            if flags.dtype == np.bool_:
                accuracies = np.atleast_2d(flags).mean(1)
                print(f"  {name}: " + " ".join(f"{100 * a:.1f}" for a in accuracies), flush=True)


if __name__ == "__main__":
    main()
