"""Run the benchmarks: ``python -m benchmarks [--size small|full] [--only STAGE,…]``.

Adding a stage is one file with ``run(size, device)`` that yields what it measured (anything with
``report()`` and ``record()``), and one line in ``STAGES``. On a machine that others use too,
``--threads 1 --clock cpu`` measures what was computed instead of what was waited for.
"""

import argparse
import importlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import CLOCKS, machine, use_clock
from foundation.wording import names_in

STAGES = {
    "inversion": "benchmarks.inversion",
    "training": "benchmarks.training",
    "clients": "benchmarks.clients",
    "distillation": "benchmarks.distillation",
    "simulation": "benchmarks.simulation",
    "growth": "benchmarks.growth",
    "iterations": "benchmarks.iterations",
}

SIZES = ("tiny", "small", "full")
"""tiny: seconds, to see that everything works; its figures say nothing."""


def main(arguments_given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--only", default=",".join(STAGES), help="stages, separated by commas")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="default: what torch chooses")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of this process")
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    arguments = parser.parse_args(arguments_given)
    stages = names_in(arguments.only)
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]!r}: choose from {', '.join(STAGES)}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    use_clock(arguments.clock)
    device = torch.device(arguments.device)
    started = datetime.now(UTC)
    setting = machine(device)
    print(", ".join(f"{name} {value}" for name, value in setting.items()), flush=True)
    output = arguments.output or Path(
        "outputs", "benchmarks", f"{started:%Y%m%d-%H%M%S}-{arguments.size}.json"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    measured: list[Any] = []
    for stage in stages:
        start = time.perf_counter()
        module = importlib.import_module(STAGES[stage])
        results = []
        for result in module.run(arguments.size, device):
            print(result.report(), flush=True)
            results.append(result)
        measured += [result.record() for result in results]
        if hasattr(module, "draw"):
            picture = output.with_name(f"{output.stem}-{stage}.svg")
            picture.write_text(module.draw(results), encoding="utf-8")
        print(f"{stage}: {time.perf_counter() - start:.0f} s in all", flush=True)
    record = {
        "time": started.isoformat(),
        "size": arguments.size,
        "machine": setting,
        "measured": measured,
    }
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
