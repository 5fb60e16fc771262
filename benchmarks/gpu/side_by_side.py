"""Processes that train side by side on one GPU: how many steps they make together."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from foundation.processes import Workers

from .task import Task
from .without_flower import allow_missing_flower

# (model, channels, image size, batch, steps), and numbers of processes.
SETUPS: dict[str, tuple[tuple[str, int, int, int, int], tuple[int, ...]]] = {
    "toy": (("resnet8", 1, 8, 4, 2), (1, 2)),
    "gpu": (("resnet8", 3, 32, 64, 400), (1, 2, 4, 8)),
}


@dataclass(frozen=True)
class SideBySide:
    """What some processes did together."""

    setup: str
    processes: int
    steps_per_second: float
    stage: str = "side by side"

    def report(self) -> str:
        return (
            f"side by side: {self.processes} processes, {self.setup}: "
            f"{self.steps_per_second:.0f} steps a second"
        )

    def record(self) -> dict[str, Any]:
        return asdict(self)


def side_by_side(task: Task) -> Iterator[SideBySide]:
    """Train in one process, then in more at the same time."""
    setup, counts = SETUPS[task.size]
    name, channels, side, batch, steps = setup
    for count in counts:
        with Workers(count) as workers:
            # A first time to import, to open the device, and to begin together.
            for size in ((*setup[:-1], 2), setup):
                for process in range(count):
                    workers.submit(str(process), seconds_per_step, size, task.device)
                seconds = []
                while workers.free < count:
                    for event in workers.events():
                        if event.error is not None:
                            raise event.error
                        seconds.append(event.value)
        yield SideBySide(
            f"{name}, batches of {batch} images of {channels}x{side}x{side}, {steps} steps",
            count,
            sum(1 / each for each in seconds),
        )


def seconds_per_step(report: Any, setup: tuple[str, int, int, int, int], device: str) -> float:
    """Return what a local step takes in this process; the first steps are not counted."""
    allow_missing_flower()
    import torch

    from benchmarks import training

    return training.seconds_per_step(*setup, device=torch.device(device))
