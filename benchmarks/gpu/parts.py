"""The parts of the measurement, and the process that carries out one of them.

``python -m benchmarks.gpu.parts NAME --out FILE …`` writes a line of JSON for every result as soon
as it is there, so that what was measured before an error, or before the time was up, is kept.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from .task import Result, Task, memory

#: The parts in the order of their worth, each with its seconds' worth in a hundred; what one leaves
#: over is shared by those behind it. What compiles may not end, and comes behind what does not; in
#: inversion and training, steps that are taken one by one come before those that are recorded.
SHARES = {
    "machine": 4,
    "inversion": 16,
    "training": 14,
    "distillation": 5,
    "tests": 13,
    "compiled inversion": 18,
    "side by side": 8,
    "budgets": 8,
    "preset": 14,
}


def run(name: str, task: Task) -> Iterator[Result]:
    """Carry out a part."""
    # Imported here: a part whose imports fail leaves the others alone.
    import torch

    from .without_flower import allow_missing_flower

    allow_missing_flower()
    device = torch.device(task.device)
    if name in ("inversion", "training", "distillation"):
        import importlib

        yield from importlib.import_module(f"benchmarks.{name}").run(task.stage_size, device)
    elif name == "compiled inversion":
        from benchmarks import inversion

        yield from inversion.run(f"{task.stage_size} compiled", device)
    elif name == "machine":
        from .facts import facts

        yield facts(device)
    elif name == "tests":
        from .tests import run_tests

        tests = run_tests(task)
        yield tests
        if tests.output:
            raise RuntimeError("tests failed")
    elif name == "side by side":
        from .side_by_side import side_by_side

        yield from side_by_side(task)
    elif name == "budgets":
        from .budgets import many_budgets

        yield from many_budgets(task)
    elif name == "preset":
        from .preset import shrunk_preset

        yield from shrunk_preset(task)
    else:
        raise ValueError(f"unknown part {name!r}: choose from {', '.join(SHARES)}")


def main() -> None:
    """Carry out one part in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.parts")
    parser.add_argument("name", choices=SHARES)
    parser.add_argument("--device", required=True)
    parser.add_argument("--size", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    task = Task(given.device, given.size, given.seconds, given.data)
    with given.out.open("a", encoding="utf-8") as lines:
        for result in run(given.name, task):
            print(result.report(), flush=True)
            line = {**result.record(), "memory": memory(given.device)}
            lines.write(json.dumps(line) + "\n")
            lines.flush()


if __name__ == "__main__":
    main()
