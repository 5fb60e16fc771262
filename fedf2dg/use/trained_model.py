"""A trained model that takes image files: ``load_model("outputs/…").predict(["photo.jpg"])``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foundation.data import Normalization
from foundation.data.decoding import decode_image
from foundation.models import (
    Classifier,
    ModelDescription,
    ModelDirectoryError,
    read_model,
    resolve_device,
)

Image = str | Path | bytes | npt.NDArray[np.uint8]

#: Images that are in memory at once.
BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Parameters
    ----------
    ranking : tuple of (str, float)
        Every class with its probability (softmax of the logits), the most probable first.
    """

    ranking: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.ranking[0][0]

    @property
    def probability(self) -> float:
        """The probability of :attr:`label`, 0 to 1."""
        return self.ranking[0][1]


class TrainedModel:
    """A classifier with all that it needs to know of its images.

    Parameters
    ----------
    description : ModelDescription
        Classes, image size, normalisation.
    network : Classifier
        The model.
    device : torch.device
        Where to compute.
    """

    def __init__(
        self, description: ModelDescription, network: Classifier, device: torch.device
    ) -> None:
        self.description = description
        self.network = network.to(device).eval()
        self.device = device
        self._normalization = Normalization(description.mean, description.std)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, in the order of the logits."""
        return self.description.classes

    def preprocess(self, image: Image) -> Tensor:
        """Decode, resize and normalise one image as in training.

        An image of another size is scaled until it covers the model's, and its centre is cut out.

        Parameters
        ----------
        image : str, Path, bytes or np.ndarray
            A file, its content, or uint8 pixels of shape (H, W) or (H, W, 3).

        Returns
        -------
        Tensor
            float32 of shape (channels, height, width).

        Raises
        ------
        foundation.data.DataError
            If it cannot be read.
        """
        where = "the image"
        if isinstance(image, str | Path):
            image = Path(image)
            where = str(image)
        size = self.description.image_size
        pixels = decode_image(image, self.description.channels, where, size)
        return self._normalization.apply(torch.from_numpy(pixels.copy()))

    @torch.inference_mode()
    def logits(self, preprocessed: Tensor) -> Tensor:
        """Return logits (n, classes) on the CPU for preprocessed images (n, channels, H, W)."""
        images = preprocessed.to(self.device, memory_format=torch.channels_last)
        found: Tensor = self.network(images)
        return found.float().cpu()

    def __call__(self, images: Image | Iterable[Image]) -> Tensor:
        """Return the logits of images, float32 of shape (n, classes), on the CPU."""
        if isinstance(images, str | Path | bytes | np.ndarray):
            images = [images]
        found, batch = [torch.empty(0, len(self.classes))], []
        for image in images:
            batch.append(self.preprocess(image))
            if len(batch) == BATCH:
                found.append(self.logits(torch.stack(batch)))
                batch = []
        if batch:
            found.append(self.logits(torch.stack(batch)))
        return torch.cat(found)

    def predict(self, images: Image | Iterable[Image]) -> list[Prediction]:
        """Classify one or several images; see :meth:`preprocess` for what an image may be."""
        return [self.ranked(row) for row in self(images)]

    def ranked(self, logits: Tensor) -> Prediction:
        """Return what the logits of one image, shape (classes,), say."""
        values, order = logits.softmax(dim=0).sort(descending=True, stable=True)
        names = [self.classes[index] for index in order.tolist()]
        return Prediction(tuple(zip(names, values.tolist(), strict=True)))


def load_model(path: str | Path, device: str = "auto") -> TrainedModel:
    """Load the model that a run kept.

    Parameters
    ----------
    path : str or Path
        A run's directory, or a copy of its ``model/``.
    device : str (default: "auto")
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    models.ModelDirectoryError
        If there is no model, or it is damaged.
    """
    description, network = read_model(model_directory(Path(path)))
    return TrainedModel(description, network, resolve_device(device))


def model_directory(path: Path) -> Path:
    """Return the directory of a model, where a run's may be given.

    Raises
    ------
    models.ModelDirectoryError
        If it is a run's, and has none.
    """
    if (path / "model").is_dir():
        return path / "model"
    if (path / "checkpoints").is_dir():
        raise ModelDirectoryError(
            f"{path} has no model/: the run is not finished, or its strategy has no global model"
        )
    return path
