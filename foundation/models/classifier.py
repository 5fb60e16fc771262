"""The interface every classifier of this project offers: embed, then classify."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .state import State, has_batch_norm

#: Takes the number of image channels and (height, width), and returns an encoder and its number of
#: features.
EncoderBuilder = Callable[[int, tuple[int, int]], tuple[nn.Module, int]]
Pixels = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Model:
    """What a file declares, as ``model = Model("name", build)``, for the key ``model``.

    ``build`` makes the encoder with fresh weights; classifier and projection head are added. Where
    the name ends with a slash, it is given the whole name, too. Of the whole name, ``trained``
    returns the weights that the model's makers offer, and ``pixels`` the mean and deviation by
    channel that those want.
    """

    name: str
    build: Callable[..., tuple[nn.Module, int]]
    trained: Callable[[str], State] | None = None
    pixels: Callable[[str], Pixels] | None = None

    def __call__(
        self, channels: int, image_size: tuple[int, int], **named: str
    ) -> tuple[nn.Module, int]:
        """Build an encoder, as a function of a user's own does it."""
        return self.build(channels, image_size, **named)


class Classifier(nn.Module):
    """An encoder, an optional projection head, and a linear classifier.

    The encoder maps images (n, channels, height, width) to features (n, width). MOON's projection
    head (Li et al. 2021, section 3.2) is a two-layer perceptron between encoder and classifier with
    ``projection_dim`` outputs; 0: there is none. It is part of the shared model, so it is trained
    and aggregated like every other layer.
    """

    def __init__(
        self, encoder: nn.Module, width: int, classes: int, projection_dim: int = 0
    ) -> None:
        super().__init__()
        self.encoder = encoder
        #: Output size of the projection head; 0: there is none.
        self.projection_dim = projection_dim
        self.projection: nn.Module = nn.Identity()
        if projection_dim > 0:
            self.projection = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection_dim)
            )
        self.head = nn.Linear(projection_dim or width, classes)

    @property
    def has_batch_norm(self) -> bool:
        """Whether a batch of one image cannot be trained on."""
        return has_batch_norm(self)

    def embed(self, images: Tensor) -> Tensor:
        """Return the representation z, shape (n, d), that MOON contrasts.

        What the encoder said of images, (n, width), may stand for them: see ``freezing``.
        """
        # flatten(1), not squeeze(): a batch of one image must keep its batch axis.
        features = images if images.ndim == 2 else self.encoder(images).flatten(1)
        embedded: Tensor = self.projection(features)
        return embedded

    def classify(self, features: Tensor) -> Tensor:
        """Return logits, shape (n, classes), for representations of shape (n, d)."""
        logits: Tensor = self.head(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (n, classes), for images of shape (n, channels, height, width)."""
        return self.classify(self.embed(images))


class Ensemble(nn.Module):
    """Σ_k w_k·z_k(x), with z_k the logits of member k: frozen, in evaluation mode.

    K classifiers, at least one, of the same classes on the same device, are used as they are; all
    are in memory, because gradients with respect to images flow through every one. The weights w,
    (K,), sum to 1; without them each is 1/K.
    """

    weights: Tensor

    def __init__(self, members: Iterable[nn.Module], weights: Tensor | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        if weights is None:
            weights = torch.full((len(self.members),), 1.0 / len(self.members))
        self.register_buffer("weights", weights.float())
        self.requires_grad_(False).eval()

    def __len__(self) -> int:
        """Return K."""
        return len(self.members)

    def answers(self, images: Tensor) -> Tensor:
        """Return every member's logits for images (n, C, H, W): (n, K, classes)."""
        return torch.stack([member(images) for member in self.members], dim=1)

    def combined(self, answers: Tensor) -> Tensor:
        """Return the ensemble's logits (n, classes) of its members' (n, K, classes)."""
        return torch.einsum("k,nkc->nc", self.weights, answers)

    def forward(self, images: Tensor) -> Tensor:
        """Return the ensemble's logits (n, classes) for images (n, C, H, W)."""
        return self.combined(self.answers(images))
