"""What every part of the measurement is told, and what it yields."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Result(Protocol):
    """What a part yields."""

    def report(self) -> str:
        """Return it in words, for the log."""
        ...

    def record(self) -> dict[str, Any]:
        """Return it as JSON's types, for the file."""
        ...


@dataclass(frozen=True)
class Task:
    """What a part is told.

    Parameters
    ----------
    device : str
        A device of PyTorch.
    size : {"gpu", "toy"}
        toy: seconds, to see that everything works; its figures say nothing.
    seconds : float
        What is left for it.
    data : Path or None
        A folder with CIFAR-10, for the preset.
    """

    device: str
    size: str
    seconds: float
    data: Path | None

    @property
    def stage_size(self) -> str:
        """What the benchmarks' own stages call the size."""
        return "tiny" if self.size == "toy" else "gpu"


def memory(device: str) -> dict[str, int]:
    """Return the bytes of a GPU's memory in use now, reserved now, and reserved at most."""
    import torch

    if torch.device(device).type != "cuda":
        return {}
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "most": torch.cuda.max_memory_reserved(device),
    }
