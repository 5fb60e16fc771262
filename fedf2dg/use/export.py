"""Hand a trained model to another program, and check that it says the same there."""

import json
import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedf2dg.report.model_card import usage
from foundation import ExpectedError, UsageError, whole_folder
from foundation.models import ModelDescription, read_model
from foundation.models.directory import CARD, DESCRIPTION, WEIGHTS

from . import ONNX, SAFETENSORS, TORCHSCRIPT
from .trained_model import model_directory

_FILES = {SAFETENSORS: "model.safetensors", TORCHSCRIPT: "model.pt", ONNX: "model.onnx"}
_NEEDED_FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")
# Of the largest logit: other programs add numbers in another order.
_TOLERANCE = 1e-4
_HEADING = "## How to use it"

Run = Callable[[Tensor], Tensor]


class ExportError(ExpectedError):
    """The exported model does not say what the original says."""


class FromPixels(nn.Module):
    """A classifier of pixels in [0, 1], (n, channels, H, W), with its normalisation inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, description: ModelDescription, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(description.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(description.std).reshape(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.network((pixels - self.mean) / self.std)
        return logits


def export(source: Path, target: Path, form: str) -> tuple[Path, float]:
    """Write the model of a run or a directory in another format, with what is to be known of it.

    Returns its file in ``target``, and the largest difference between its logits and the original's
    on random images. UsageError if the target is in use, or a package is missing; ExportError if
    the exported model, loaded and run, differs: then nothing is left behind.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not an empty directory: choose another one with --to")
    if missing := missing_for(form):
        raise UsageError(
            f"format {form} needs {', '.join(missing)}: python -m pip install "
            f"{' '.join(_NEEDED_FOR_ONNX)}"
        )
    directory = model_directory(source)
    description, network = read_model(directory)
    original = FromPixels(description, network).eval()
    write = {SAFETENSORS: _safetensors, TORCHSCRIPT: _torchscript, ONNX: _onnx}[form]
    with whole_folder(target) as folder:
        file = folder / _FILES[form]
        if form == SAFETENSORS:
            shutil.copyfile(directory / WEIGHTS, file)
        (folder / DESCRIPTION).write_text(_about(description, form), "utf-8")
        if (directory / CARD).is_file():
            card = _with_use((directory / CARD).read_text("utf-8"), form)
            (folder / CARD).write_text(card, "utf-8")
        difference = _difference(original, write(original, description, file), description)
    return target / _FILES[form], difference


def _about(description: ModelDescription, form: str) -> str:
    values = description.to_json()
    if form != SAFETENSORS:
        # Whoever applied these constants would do so twice.
        for name in ("format", "projection_dim", "mean", "std"):
            del values[name]
        values["input"] = "pixels in 0..1, float32, (images, channels, height, width)"
        values["resize"] = "cover image_size, bicubic, cut at the centre"
    return json.dumps(values, indent=2) + "\n"


def _with_use(card: str, form: str) -> str:
    """Return a model's card that says how the exported file is used."""
    before, _, behind = card.partition(_HEADING)
    _, following, rest = behind.partition("\n## ")
    return f"{before.rstrip()}\n\n{_HEADING}\n\n{usage(form)}{following}{rest}"


def missing_for(form: str) -> list[str]:
    """Return the packages that a format needs and that are not installed."""
    needed = _NEEDED_FOR_ONNX if form == ONNX else ()
    return [name for name in needed if find_spec(name) is None]


def _safetensors(original: FromPixels, description: ModelDescription, file: Path) -> Run:
    return FromPixels(*read_model(file.parent)).eval()


def _torchscript(original: FromPixels, description: ModelDescription, file: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch advises torch.export, which C++ cannot read
        # PyTorch's own comparison would be of two traces; ours is of answers.
        torch.jit.trace(original, _images(description, 2), check_trace=False).save(
            str(file), _extra_files={DESCRIPTION: _about(description, TORCHSCRIPT)}
        )
        loaded: Run = torch.jit.load(str(file)).eval()
    return loaded


def _onnx(original: FromPixels, description: ModelDescription, file: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            original,
            (_images(description, 2),),
            file,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("images")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    from onnxruntime import InferenceSession

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(pixels: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"pixels": pixels.numpy()})
        return torch.from_numpy(np.asarray(logits))

    return run


def _images(description: ModelDescription, count: int) -> Tensor:
    shape = (count, description.channels, *description.image_size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(count))


def _difference(original: Run, exported: Run, description: ModelDescription) -> float:
    """Return the largest difference of logits, on one image and on several; refuse a large one."""
    largest = 0.0
    with torch.inference_mode():
        for count in (1, 5):
            images = _images(description, count)
            expected, found = original(images), exported(images)
            difference = float((expected - found).abs().max())
            if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
                raise ExportError(
                    f"the exported model differs from the original: logits by {difference:.3g}. "
                    "Nothing was written"
                )
            largest = max(largest, difference)
    return largest
