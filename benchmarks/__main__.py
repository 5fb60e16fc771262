"""Run the benchmarks: ``python -m benchmarks [--size small|full] [--only STAGE,…]``.

Adding a stage is one file with ``run(size, device)`` that yields comparisons, and one line in
``STAGES``.
"""

import argparse
import importlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.measure import machine

STAGES = {
    "inversion": "benchmarks.inversion",
    "distillation": "benchmarks.distillation",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", default=",".join(STAGES), help="stages, separated by commas")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    arguments = parser.parse_args()
    stages = [stage.strip() for stage in arguments.only.split(",") if stage.strip()]
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]!r}: choose from {', '.join(STAGES)}")
    device = torch.device(arguments.device)
    started = datetime.now(UTC)
    setting = machine(device)
    print(", ".join(f"{name} {value}" for name, value in setting.items()), flush=True)
    comparisons = []
    for stage in stages:
        start = time.perf_counter()
        for comparison in importlib.import_module(STAGES[stage]).run(arguments.size, device):
            print(comparison.report(), flush=True)
            comparisons.append(comparison.record())
        print(f"{stage}: {time.perf_counter() - start:.0f} s in all", flush=True)
    output = arguments.output or Path(
        "outputs", "benchmarks", f"{started:%Y%m%d-%H%M%S}-{arguments.size}.json"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "time": started.isoformat(),
        "size": arguments.size,
        "machine": setting,
        "comparisons": comparisons,
    }
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
