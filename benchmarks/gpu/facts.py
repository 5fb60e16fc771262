"""What a GPU's numbers have to be read with: what it is, and what it can do at most."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.measure import machine, measure_ceilings


@dataclass(frozen=True)
class Facts:
    """The machine, and the operations per second of a large matrix product by precision."""

    machine: dict[str, Any]
    ceilings: dict[str, float]
    stage: str = "machine"

    def report(self) -> str:
        ceilings = (f"{name} {rate / 1e12:.1f} TFLOP/s" for name, rate in self.ceilings.items())
        return f"{self.machine['device']}: a large matrix product reaches {', '.join(ceilings)}"

    def record(self) -> dict[str, Any]:
        return asdict(self)


def facts(device: torch.device) -> Facts:
    """Measure what the machine can do."""
    known = machine(device)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        known |= {
            "cuda": torch.version.cuda,
            "gpus": torch.cuda.device_count(),
            "gpu_memory": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
        }
    return Facts(known, measure_ceilings(device))
