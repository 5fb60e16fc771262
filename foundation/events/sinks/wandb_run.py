"""A run of Weights & Biases; its own environment variables say where, and whether at all."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.events.sinks import Sink


class WandbRun:
    """Every group is a set of charts over a step of its own."""

    def __init__(self, directory: Path, configuration: Mapping[str, Any]) -> None:
        import wandb

        self._image: Any = wandb.Image
        # ``project`` gives way to the variable WANDB_PROJECT only if it is not named here.
        self._run: Any = wandb.init(
            name=directory.name, dir=str(directory), config=dict(configuration)
        )
        self._groups: set[str] = set()

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        if group not in self._groups:
            self._groups.add(group)
            self._run.define_metric(f"{group}/*", step_metric=f"{group}/step")
        named = {f"{group}/{name}": value for name, value in values.items()}
        self._run.log({**named, f"{group}/step": step})

    def picture(self, name: str, step: int, png: bytes) -> None:
        from PIL import Image

        self._run.log({name: self._image(Image.open(io.BytesIO(png)), caption=f"{name}, {step}")})

    def close(self) -> None:
        self._run.finish()


sink = Sink("wandb", WandbRun, "wandb")
