"""Several classifiers as one: the weighted mean of their logits."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Σ_k w_k·z_k(x), with z_k the logits of member k: frozen, in evaluation mode.

    All members are in memory, because gradients with respect to images flow through every one.

    Parameters
    ----------
    members : iterable of nn.Module
        K classifiers, at least one, of the same classes on the same device; used as they are.
    weights : Tensor, optional
        (K,) w, sums to 1; None: 1/K each.
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
