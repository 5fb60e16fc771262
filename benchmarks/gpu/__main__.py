"""``python -m benchmarks.gpu --minutes 9 --out DIR``: all that is worth knowing about a GPU.

Needs PyTorch 2.6 or newer with CUDA. Flower need not be installed, nor pytest. Every part runs in a
process of its own, with its share of the time: one that fails, or hangs, leaves the others alone.
After every part ``DIR/gpu.json`` and ``DIR/gpu.md`` hold what there is. Called again with the same
folder, it goes on: what came to its end is not measured again.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foundation import write_whole
from foundation.wording import names_in

from .parts import SHARES
from .table import markdown

REPOSITORY = Path(__file__).resolve().parents[2]


def main(given: Sequence[str] | None = None) -> int:
    """Measure; return 0 if every part came to its end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10; else synthetic pictures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=("gpu", "toy"), default="gpu")
    parser.add_argument("--only", default=",".join(SHARES), help="parts, separated by commas")
    arguments = parser.parse_args(given)
    names = list(names_in(arguments.only))
    for name in names:
        if name not in SHARES:
            parser.error(f"unknown part {name!r}: choose from {', '.join(SHARES)}")
    if arguments.minutes <= 0:
        parser.error(f"--minutes {arguments.minutes}: must be above 0")
    arguments.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * arguments.minutes
    record = _taken_up(arguments)
    done = {name for name, part in record["parts"].items() if part["status"] == "done"}
    names = [name for name in names if name not in done]
    for index, name in enumerate(names):
        seconds = share_of(names[index:], deadline - time.monotonic())
        record["parts"][name] = carry_out(name, seconds, arguments)
        _save(record, arguments.out)
    print(f"written to {arguments.out / 'gpu.md'}")
    return int(any(part["status"] != "done" for part in record["parts"].values()))


def _taken_up(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the record that an earlier call on this device left in the folder, or a new one."""
    new: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": arguments.size,
        "device": arguments.device,
        "parts": {},
    }
    with contextlib.suppress(OSError, ValueError):  # of none, or of one that is not whole
        found: dict[str, Any] = json.loads((arguments.out / "gpu.json").read_text("utf-8"))
        if all(found.get(key) == new[key] for key in ("size", "device")):
            return found
    return new


def share_of(names: Sequence[str], left: float) -> float:
    """Return the seconds for the first of the parts that are still to be carried out.

    Parameters
    ----------
    names : sequence of str
        Those parts, in their order.
    left : float
        Seconds for all of them.
    """
    return max(0.0, left) * SHARES[names[0]] / sum(SHARES[name] for name in names)


def carry_out(
    name: str,
    seconds: float,
    arguments: argparse.Namespace,
    program: Sequence[str] = ("-m", "benchmarks.gpu.parts"),
) -> dict[str, Any]:
    """Carry out one part in a process of its own; return its record, whatever became of it."""
    print(f"{name}: at most {seconds:.0f} s", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fedf2dg-gpu-") as folder:
        lines, log = Path(folder, "results.jsonl"), Path(folder, "log.txt")
        command = [sys.executable, *program, name]
        command += ["--device", arguments.device, "--size", arguments.size]
        command += ["--seconds", str(seconds), "--out", str(lines)]
        if arguments.data is not None:
            command += ["--data", str(arguments.data.resolve())]
        status, error = "done", ""
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                if process.wait(seconds):
                    status = "failed"
            except subprocess.TimeoutExpired:
                status = "out of time"
            finally:
                with contextlib.suppress(ProcessLookupError):  # a compiler's processes, too
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = log.read_text("utf-8", errors="replace")
        if status != "done":
            error = said[-3000:].strip()
        written = lines.read_text("utf-8") if lines.exists() else ""
        results = [json.loads(line) for line in written.splitlines()]
    print(said if status == "done" else f"{status}:\n{error}", flush=True)
    return {
        "status": status,
        "seconds": time.monotonic() - began,
        "error": error,
        "results": results,
    }


def _save(record: dict[str, Any], folder: Path) -> None:
    write_whole(folder / "gpu.json", json.dumps(record, indent=2) + "\n")
    write_whole(folder / "gpu.md", markdown(record))


if __name__ == "__main__":
    sys.exit(main())
