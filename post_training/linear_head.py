"""A linear head, and what of it can be known where some classes have no images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LinearHead:
    """Logits z = W·f + b of features f.

    Parameters
    ----------
    weight : Tensor
        (C, d) float64, W.
    bias : Tensor
        (C,) float64, b.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Return (n, C) float64 for features (n, d)."""
        return features.double() @ self.weight.T + self.bias

    def scaled(self, factor: float) -> LinearHead:
        """Return the head whose logits are ``factor`` times these."""
        return LinearHead(factor * self.weight, factor * self.bias)

    def within(self, old: LinearHead, known: Tensor) -> LinearHead:
        """Return ``old`` with the rows of the known classes replaced by these.

        What is added to all rows of a head changes no prediction among them, so the new rows can be
        moved to where the mean of the old ones is. Beside the mean logit of the known classes every
        other class then stands where it stood.

        Parameters
        ----------
        old : LinearHead
            (C, d): all classes.
        known : Tensor
            (C,) bool, with as many true entries as this head has rows, at least one.
        """
        weight, bias = old.weight.clone(), old.bias.clone()
        weight[known] = self.weight + (old.weight[known].mean(0) - self.weight.mean(0))
        bias[known] = self.bias + (old.bias[known].mean() - self.bias.mean())
        return LinearHead(weight, bias)
