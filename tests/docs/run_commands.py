"""Run documented commands one after the other in this process, as lean as a test needs it.

Started in a copy of the app with a JSON file of command lines; ends at the first that fails.
"""

import json
import runpy
import sys
import time
from pathlib import Path

from fedf2dg import cli
from fedf2dg.compare import read_plan
from fedf2dg.report import live
from server_app import preflight

#: What a documented run is shortened to, where it does not say otherwise itself.
TINY = {
    "train-samples": "90",
    "min-partition-size": "2",
    "dirichlet-alpha": "1.0",
    "num-server-rounds": "1",
    "local-epochs": "1",
    "generation.images-per-client": "4",
    "generation.iterations": "2",
    "distillation.epochs": "1",
}


def run(words: list[str]) -> None:
    """Carry out one command line, a run of Python or of ``fedf2dg``."""
    if words[0] == "python":
        runpy.run_path(words[1], run_name="__main__")
        return
    arguments = words[1:]
    if arguments[0] == "compare":  # whole runs in processes of their own: only read here
        chosen = cli.parse(arguments)
        read_plan(chosen.config, chosen.settings, preflight.parse, chosen.baseline)
        return
    if arguments[0] == "simulate":
        given = {word.partition("=")[0] for word in arguments}
        if "partition=folders" in arguments:  # every site trains on all its images
            given.add("train-samples")
        arguments += [f"{key}={value}" for key, value in TINY.items() if key not in given]
        arguments += ["--engine", "local"]
    status = cli.main(arguments)
    if status != 0:
        sys.exit(f"status {status}: fedf2dg {' '.join(arguments)}")


if __name__ == "__main__":
    # To draw a report takes longer than such a run; ``fedf2dg report`` still draws.
    live.write_report = lambda directory: directory / "report.html"
    live.pseudo_grid = lambda directory, **named: directory
    for line in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        started = time.perf_counter()
        run(line)
        print(f"done in {time.perf_counter() - started:.1f} s: {' '.join(line)}", flush=True)
