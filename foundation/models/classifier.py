"""The interface every classifier of this project offers: embed, then classify; and its head.

Of a head, a last linear layer whose outputs are the logits, C is the number of classes, d that of
features.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from .state import State, has_batch_norm

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


@dataclass(frozen=True)
class LinearHead:
    """Logits z = W·f + b of features f; W (C, d) and b (C,) are float64."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, state: Mapping[str, Tensor], head: str = "head") -> Self:
        """Read that of a state, on the CPU; ``head`` is the layer's name."""
        return cls(*(state[name].double().cpu() for name in _names(head)))

    def put_into(self, state: Mapping[str, Tensor], head: str = "head") -> State:
        """Return a copy of a state with this head, in the types and places of the old one."""
        new = zip(_names(head), (self.weight, self.bias), strict=True)
        return {**state, **{name: value.to(state[name]) for name, value in new}}

    def rows(self, known: Tensor) -> Self:
        """Return that of the ``known`` classes alone, (C,) bool."""
        return type(self)(self.weight[known], self.bias[known])

    def logits(self, features: Tensor) -> Tensor:
        """Return (n, C) float64 for features (n, d)."""
        return features.double() @ self.weight.T + self.bias

    def scaled(self, factor: float) -> Self:
        """Return the head whose logits are ``factor`` times these."""
        return type(self)(factor * self.weight, factor * self.bias)

    def within(self, old: Self, known: Tensor) -> Self:
        """Return ``old``, (C, d), with the rows of the ``known`` classes, (C,) bool, replaced.

        What is added to all rows of a head changes no prediction among them, so the new rows can be
        moved to where the mean of the old ones is. Beside the mean logit of the known classes every
        other class then stands where it stood.
        """
        weight, bias = old.weight.clone(), old.bias.clone()
        weight[known] = self.weight + (old.weight[known].mean(0) - self.weight.mean(0))
        bias[known] = self.bias + (old.bias[known].mean() - self.bias.mean())
        return type(self)(weight, bias)


def logit_spread(head: LinearHead, means: Tensor, covariance: Tensor, shares: Tensor) -> float:
    """Return the root mean square of the logits, less their mean over the classes.

    With W' and b' the head less the mean of its rows, the mean of ‖W'f + b'‖²/C over features f of
    the classes is Σ_c π_c·‖W'μ_c + b'‖²/C + tr(W'ΣW'ᵀ)/C. Two heads of the same spread are about as
    sure of themselves; the quotient of two spreads is a temperature. π sums to 1.
    """
    weight, bias = head.weight - head.weight.mean(0), head.bias - head.bias.mean()
    between = shares.double() @ (means.double() @ weight.T + bias).square().mean(1)
    within = ((weight @ covariance.double()) * weight).sum(1).mean()
    return math.sqrt(float(between + within))


def head_name(model: nn.Module) -> str:
    """Return the name of a classifier's last linear layer, e.g. ``"head"`` or ``"fc"``.

    A ValueError says that there is none, or that it has no bias.
    """
    linear: list[str] = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear)
    ]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer whose bias could be changed")
    head = model.get_submodule(linear[-1])
    if not isinstance(head.bias, Tensor):
        raise ValueError(f"the last linear layer of {type(model).__name__} has no bias")
    return linear[-1]


def _names(head: str) -> tuple[str, str]:
    prefix = f"{head}." if head else ""
    return f"{prefix}weight", f"{prefix}bias"


def add_to_bias(state: Mapping[str, Tensor], head: str, bias: Tensor) -> State:
    """Return a copy of a state whose head has ``bias``, (C,), added in float64."""
    old = LinearHead.of(state, head)
    return LinearHead(old.weight, old.bias + bias.cpu().double()).put_into(state, head)
