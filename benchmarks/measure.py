"""Timing two or more ways of doing the same thing, and the machine it happened on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from foundation.capture import RECORDERS, SWITCH
from foundation.models import native_bfloat16

Timed = Callable[[], float]
"""Does the work once and returns the seconds that count."""

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""``cpu`` counts what this process computed, over all its threads: with one thread it is what the
wall clock would say on a machine that nobody else uses."""

_clock = "wall"


def use_clock(name: str) -> None:
    """Choose the clock that all measurements are read from."""
    global _clock
    _clock = name


def now() -> float:
    """Seconds of the chosen clock."""
    return CLOCKS[_clock]()


@dataclass(frozen=True)
class Variant:
    """One way of doing a stage, as measured.

    ``seconds`` are for one unit of the comparison; ``first`` is the first call, compilation
    included.
    """

    name: str
    seconds: list[float]
    first: float
    precision: str = "float32"

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """Ways of doing one stage under one set-up; the first is the textbook one."""

    stage: str
    setup: str
    unit: str
    variants: list[Variant]
    operations: float = 0.0
    """Floating-point operations that one unit needs at least; 0 where that says nothing."""
    ceilings: dict[str, float] = field(default_factory=dict)
    """Measured operations per second of a large matrix product, by precision."""

    def report(self) -> str:
        base = self.variants[0].median
        lines = [f"{self.stage}: {self.setup}"]
        for variant in self.variants:
            spread = f"{min(variant.seconds):.4g} to {max(variant.seconds):.4g}"
            line = (
                f"  {variant.name:<28} {variant.median:10.4g} s per {self.unit} ({spread}),"
                f" first call {variant.first:.1f} s, {base / variant.median:6.2f} x"
                f" ({100 * (variant.median / base - 1):+.0f} %)"
            )
            if self.operations:
                rate = self.operations / variant.median
                line += f", {rate / 1e9:8.1f} GFLOP/s"
                ceiling = self.ceilings.get(variant.precision)
                if ceiling:
                    line += f" = {100 * rate / ceiling:.0f} % of the {variant.precision} ceiling"
            lines.append(line)
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        base = self.variants[0].median
        variants = [
            {**asdict(variant), "median": variant.median, "ratio": base / variant.median}
            for variant in self.variants
        ]
        return {**asdict(self), "variants": variants}


def alternate(ways: dict[str, Timed], repeats: int) -> dict[str, tuple[list[float], float]]:
    """Call every way once to warm it up, then all of them in turn, ``repeats`` times.

    Turns rather than blocks, so that a machine that slows down slows all of them down.

    Returns
    -------
    dict
        For each way its measured seconds, and the wall time of its first call.
    """
    first = {}
    for name, way in ways.items():
        start = now()
        way()
        first[name] = now() - start
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(way())
    return {name: (seconds[name], first[name]) for name in ways}


def recordings(device: torch.device) -> Iterator[str]:
    """Have steps taken one by one, then, where the device can, recorded; yield what to call it.

    In this order, since a recording is what may go wrong.
    """
    before = os.environ.get(SWITCH)
    try:
        os.environ[SWITCH] = "off"
        yield ""
        if device.type in RECORDERS:
            os.environ[SWITCH] = "on"
            yield ", recorded"
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before


def measure_ceilings(device: torch.device) -> dict[str, float]:
    """Measure the ceiling of every type that a device multiplies in hardware.

    Elsewhere bfloat16 is emulated: a thousand times slower, and nobody's choice.
    """
    types = [torch.float32, *([torch.bfloat16] if native_bfloat16(device) else [])]
    return {str(dtype).removeprefix("torch."): ceiling(dtype, device) for dtype in types}


def ceiling(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Operations per second of a large square matrix product: the best of some tries."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(repeats + 1):
        synchronise(device)
        start = now()
        a @ b
        synchronise(device)
        best = max(best, 2.0 * size**3 / (now() - start))
    return best


def synchronise(device: torch.device) -> None:
    """Wait until a device has done everything asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> dict[str, Any]:
    """What a number has to be read with."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clock": _clock,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
