"""A trained model that takes images as they are: ``load_model("outputs/…").predict("a.jpg")``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foundation.data import DataError, Normalization
from foundation.data.decoding import decode_image
from foundation.data.sources.walk import SUFFIXES
from foundation.errors import log
from foundation.models import (
    Classifier,
    ModelDescription,
    ModelDirectoryError,
    load_state,
    read_model,
    resolve_device,
)
from foundation.models.client_store import OWN_LAYERS, SiteFolder

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    Image = str | Path | bytes | PILImage | npt.NDArray[np.uint8]

#: Images that are in memory at once.
BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image."""

    #: Every class with its probability (softmax of the logits), the most probable first.
    ranking: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.ranking[0][0]

    @property
    def probability(self) -> float:
        """The probability of :attr:`label`, 0 to 1."""
        return self.ranking[0][1]


class Answer(NamedTuple):
    """What a model sees of an image, (channels, H, W), and its logits, (classes,)."""

    pixels: Tensor
    logits: Tensor


class TrainedModel:
    """A classifier with all that it needs to know of its images; it computes on ``device``."""

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
        """Decode, resize and normalise one image as in training: float32 (channels, H, W).

        It may be a file, its content, a PIL image, or a uint8 array of shape (H, W), (H, W, 1) or
        (H, W, 3). One of another size is scaled until it covers the model's, and cut at the centre.
        What training would not read either is a ``DataError``.
        """
        where = "the image"
        if isinstance(image, str | Path):
            image = Path(image)
            where = str(image)
            if image.is_file() and image.suffix.lower() not in SUFFIXES:
                raise DataError(
                    f"{where} is not read, as in training: images are {', '.join(SUFFIXES)} files"
                )
        elif not isinstance(image, bytes):
            image = _pixels(image)
        description = self.description
        pixels = decode_image(image, description.channels, where, description.image_size)
        return self.normalized(pixels)

    def normalized(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """Return decoded pixels, (…, channels, H, W), as the network takes them."""
        return self._normalization.apply(torch.tensor(pixels))

    def seen(self, preprocessed: Tensor) -> npt.NDArray[np.uint8]:
        """Return a preprocessed image (channels, H, W) as it looks."""
        return self._normalization.invert(preprocessed).numpy()

    @torch.inference_mode()
    def logits(self, preprocessed: Tensor) -> Tensor:
        """Return logits (n, classes) on the CPU for preprocessed images (n, channels, H, W)."""
        images = preprocessed.to(self.device, memory_format=torch.channels_last)
        found: Tensor = self.network(images)
        return found.float().cpu()

    def answers(self, images: Iterable[Image]) -> Iterator[tuple[Any, Answer | DataError]]:
        """Yield each image with what the model says of it, or why it cannot be read."""
        left = iter(images)
        while batch := list(islice(left, BATCH)):
            read: list[Tensor | DataError] = []
            for image in batch:
                try:
                    read.append(self.preprocess(image))
                except DataError as error:
                    read.append(error)
            pixels = [found for found in read if isinstance(found, Tensor)]
            rows = iter(self.logits(torch.stack(pixels)) if pixels else ())
            for image, found in zip(batch, read, strict=True):
                yield image, found if isinstance(found, DataError) else Answer(found, next(rows))

    def __call__(self, images: Image | Iterable[Image]) -> Tensor:
        """Return the logits of images, float32 of shape (n, classes), on the CPU."""
        found = [torch.empty(0, len(self.classes))]
        for _, answer in self.answers(_one_by_one(images)):
            if isinstance(answer, DataError):
                raise answer
            found.append(answer.logits[None])
        return torch.cat(found)

    def predict(self, images: Image | Iterable[Image]) -> list[Prediction]:
        """Classify one or several images; see :meth:`preprocess` for what an image may be.

        Several are any iterable of them, or one array of shape (n, H, W, 1) or (n, H, W, 3).
        """
        return [self.ranked(row) for row in self(images)]

    def ranked(self, logits: Tensor) -> Prediction:
        """Return what the logits of one image, shape (classes,), say."""
        values, order = logits.softmax(dim=0).sort(descending=True, stable=True)
        names = [self.classes[index] for index in order.tolist()]
        return Prediction(tuple(zip(names, values.tolist(), strict=True)))


def _one_by_one(images: Any) -> Iterator[Any]:
    from PIL.Image import Image as PILImage

    several = isinstance(images, Iterable) and not isinstance(
        images, str | Path | bytes | np.ndarray | Tensor | PILImage
    )
    if several or (isinstance(images, np.ndarray) and images.ndim == 4):
        yield from images
    else:
        yield images


def _pixels(image: Any) -> PILImage | npt.NDArray[np.uint8]:
    """Return an image that is no file as Pillow takes it; refuse what it would misread."""
    from PIL.Image import Image as PILImage

    if isinstance(image, PILImage):
        if 0 in image.size:
            raise DataError(f"the image has no pixels: it is {image.width}x{image.height}")
        if image.mode == "I" and not image.format:
            # 32 bits hold any range: scaled as 16 bits are, values up to 255 would come out black.
            raise DataError(
                "the image has mode I, whose values may have any range: bring them to 0..255 and "
                "make it of uint8, or of uint16 if they use 16 bits"
            )
        return image.copy()  # since decoding closes what it is given
    dtype, shape = getattr(image, "dtype", None), tuple(getattr(image, "shape", ()))
    grey, colour = len(shape) == 2, len(shape) == 3 and shape[2] in (1, 3)
    if not (isinstance(image, np.ndarray) and dtype == np.uint8 and (grey or colour)) or 0 in shape:
        said = type(image).__name__ if dtype is None else f"{dtype} of shape {shape}"
        raise DataError(
            f"{said} is no image: take a file, its bytes, a PIL image, or a NumPy array of uint8 "
            "(0 to 255) of shape (H, W), (H, W, 1) or (H, W, 3), several of them as a list or as "
            "(n, H, W, 1) or (n, H, W, 3)"
        )
    return image[:, :, 0] if colour and shape[2] == 1 else image


def load_model(path: str | Path, device: str = "auto", site: str = "") -> TrainedModel:
    """Load the model that a run kept, from its directory or a copy of its ``model/``.

    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``site`` is where a site keeps its own
    part of the model, which is put in where it is better there: the folder or file of its images,
    what its ``keep-path`` names, or its name in a simulation. What is missing or damaged is a
    ``ModelDirectoryError``.
    """
    directory = model_directory(Path(path))
    description, network = read_model(directory)
    if site:
        _make_own(network, directory, site)
    return TrainedModel(description, network, resolve_device(device))


def _make_own(network: Classifier, directory: Path, site: str) -> None:
    """Put a site's own layers into a model."""
    here, state = Path(site), network.state_dict()
    places = [SiteFolder(here), SiteFolder.beside(here)]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for row in json.loads((directory / OWN_LAYERS).read_bytes())["sites"]:
            if row["name"] == site:
                folder = f"client-{row['client']:05d}"
                places.append(SiteFolder(directory.parent / "sites" / folder))
    own = next(filter(None, (place.own_layers(state) for place in places)), None)
    if own is None:
        raise ModelDirectoryError(
            f"--site {site}: it keeps nothing for the model in {directory}. Name the folder of the "
            "site's images, or where its keep-path is, or of a simulation the name of a site"
        )
    if own.kept:
        load_state(network, {**state, **own.layers})
    else:
        log.warning("site %s: the shared model is used, its own part was not better there", site)


def model_directory(path: Path) -> Path:
    """Return the directory of a model, where a run's may be given."""
    if (path / "model").is_dir():
        return path / "model"
    if (path / "checkpoints").is_dir():
        raise ModelDirectoryError(
            f"{path} has no model/: the run is not finished, or its strategy has no global model"
        )
    return path
