"""A trained model as a directory: weights, what is needed to build it, and its card.

The three files are those of a Hugging Face model repository. Weights are safetensors: loading a
model that somebody else made runs none of his code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from foundation import UsageError, whole_folder
from foundation.members import MODELS

from .classifier import Classifier
from .registry import build
from .state import State, first_non_finite, load_state

FORMAT = 1
WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"


class ModelDirectoryError(UsageError):
    """A directory holds no model that this version can use; the message says why."""


@dataclass(frozen=True)
class ModelDescription:
    """All that is needed to build a model and to give it images.

    ``architecture`` is the model's name; ``projection_dim`` the output size of MOON's projection
    head, 0 where it has none. Classes are named in the order of the logits. Images have 1 (grey) or
    3 (RGB) channels and (height, width) pixels; the network sees ``(byte / 255 - mean) / std``, a
    value per channel.
    """

    architecture: str
    projection_dim: int
    classes: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what no model can be built from."""
        MODELS.require(self.architecture)
        sizes = (len(self.classes), *self.image_size)
        if self.channels not in (1, 3) or min(sizes) < 1 or len(self.image_size) != 2:
            raise ValueError(
                f"classes = {len(self.classes)}, channels = {self.channels}, image_size = "
                f"{list(self.image_size)}: there is no such image classifier"
            )
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError("mean and std must have a value per channel, std above 0")

    def build(self) -> Classifier:
        """Return the model with weights of no meaning."""
        return build(
            self.architecture,
            classes=len(self.classes),
            channels=self.channels,
            image_size=self.image_size,
            projection_dim=self.projection_dim,
            seed=0,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` returned.

        A KeyError, TypeError or ValueError says that a value is missing or of another kind.
        """
        if values["format"] != FORMAT:
            raise ValueError(f"it has format {values['format']!r}, this version reads {FORMAT}")
        height, width = values["image_size"]
        return cls(
            architecture=str(values["architecture"]),
            projection_dim=int(values["projection_dim"]),
            classes=tuple(str(name) for name in values["classes"]),
            channels=int(values["channels"]),
            image_size=(int(height), int(width)),
            mean=tuple(float(value) for value in values["mean"]),
            std=tuple(float(value) for value in values["std"]),
        )


def write_model(target: Path, description: ModelDescription, state: State, card: str = "") -> None:
    """Write a model's directory, whole or not at all; a model that is there is replaced."""
    with whole_folder(target, replace=True) as folder:
        save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
        (folder / DESCRIPTION).write_text(json.dumps(description.to_json(), indent=2) + "\n")
        if card:
            (folder / CARD).write_text(card, "utf-8")


def read_model(directory: Path) -> tuple[ModelDescription, Classifier]:
    """Load what :func:`write_model` wrote; the model is in evaluation mode, on the CPU.

    A ModelDirectoryError says that a file is missing or damaged, that the weights are another
    model's or are not finite, or that the architecture is unknown here.
    """
    if not directory.is_dir():
        raise ModelDirectoryError(f"{directory} is not a directory")
    for name in (DESCRIPTION, WEIGHTS):
        if not (directory / name).is_file():
            raise ModelDirectoryError(f"{directory} holds no model: it has no {name}")
    try:
        description = ModelDescription.from_json(json.loads((directory / DESCRIPTION).read_bytes()))
        model = description.build()
    except KeyError as error:
        raise ModelDirectoryError(
            f"{directory / DESCRIPTION} is not of a model of this program: it names no {error}"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelDirectoryError(
            f"{directory / DESCRIPTION} cannot be used: {one_line(error)}"
        ) from error
    try:
        state = load_file(directory / WEIGHTS)
        load_state(model, state)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelDirectoryError(
            f"{directory / WEIGHTS} cannot be used: {one_line(error)}"
        ) from error
    if broken := first_non_finite(state):
        raise ModelDirectoryError(
            f"{directory / WEIGHTS} cannot be used: {broken!r} holds NaN or infinite values"
        )
    return description, model.eval()


def one_line(error: Exception) -> str:
    """Return an error's message without line ends."""
    return " ".join(str(error).split())
