"""TensorBoard's event files, in ``tensorboard/`` in the run's directory."""

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foundation.events.sinks import Sink


class TensorBoardEvents:
    """Numbers as scalars ``group/name``, pictures as images, the settings as text."""

    def __init__(self, directory: Path, configuration: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = directory / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self._writer: Any = SummaryWriter(str(folder), flush_secs=10)
        settings = json.dumps(dict(configuration), indent=2).replace("\n", "\n    ")
        self._writer.add_text("configuration", f"    {settings}")

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, step: int, png: bytes) -> None:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


sink = Sink("tensorboard", TensorBoardEvents, "tensorboard")
