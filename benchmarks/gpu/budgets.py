"""Ten models with ten budgets through one engine, as the data generation principle gives them.

A CUDA graph is recorded for each model: what compiling saves beside it, and what memory is kept.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.measure import now, synchronise
from foundation import models
from foundation.models import release_memory
from generation import InversionEngine, InversionSettings

from .task import Task, memory

# (model, channels, image size, budgets, steps)
SETUPS: dict[str, tuple[str, int, int, list[int], int]] = {
    "toy": ("resnet8", 1, 8, [2, 3, 9], 2),
    "gpu": ("resnet18", 3, 32, [37, 64, 91, 118, 145, 187, 243, 301, 402, 530], 20),
}


@dataclass(frozen=True)
class Budgets:
    """What one way of running the steps cost."""

    way: str
    budgets: list[int]
    compiled: bool
    seconds: dict[str, float]
    """Of the first time, with what is compiled and recorded, and of the second."""
    engine_memory: dict[str, int]
    closed_memory: dict[str, int]
    stage: str = "budgets"

    def report(self) -> str:
        reserved = self.engine_memory.get("reserved", 0) / 1e9
        left = self.closed_memory.get("reserved", 0) / 1e9
        return (
            f"budgets: {len(self.budgets)} models, {self.way}, first {self.seconds['first']:.1f} s,"
            f" then {self.seconds['second']:.1f} s,"
            f" {reserved:.2f} GB reserved, {left:.2f} GB when the stage was over"
        )

    def record(self) -> dict[str, Any]:
        return asdict(self)


def many_budgets(task: Task) -> Iterator[Budgets]:
    """Invert the same models for the same budgets, compiled and not."""
    device = torch.device(task.device)
    name, channels, side, budgets, steps = SETUPS[task.size]
    for way in ("off", "on") if device.type == "cuda" else ("off",):
        settings = InversionSettings(iterations=steps, compile=way)
        model = models.build(name, classes=10, channels=channels, image_size=side, seed=0).eval()
        engine = InversionEngine(
            model, (channels, side, side), settings, device=device, expected_images=sum(budgets)
        )
        seconds = {}
        for turn in ("first", "second"):
            start = now()
            for client, budget in enumerate(budgets):
                engine.invert(model, torch.arange(budget) % 10, seed=client)
            synchronise(device)
            seconds[turn] = now() - start
        used = memory(task.device)
        compiled = engine.compiled
        engine.close()
        release_memory(device)
        yield Budgets(f"compile={way}", budgets, compiled, seconds, used, memory(task.device))
