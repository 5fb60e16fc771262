"""Which pseudo images can be used at all, whoever made them, and what is raised if none can.

Finite but absurd values turn the network that is trained on them into NaN.
"""

from torch import Tensor

from foundation import ExpectedError


class InversionError(ExpectedError, RuntimeError):
    """Images cannot be generated; the message says why, and what to change."""


class UninvertibleModel(InversionError):
    """One model cannot be inverted, or what comes out is absurd; others may well be."""


LARGEST_PIXEL = 1e3
"""Normalised pixels of real images lie within about ±3; what inversion makes of them, ±30."""

LARGEST_LOGIT = 1e5


def implausible(images: Tensor, logits: Tensor) -> str:
    """Say what is wrong with images or soft labels; empty if nothing is.

    Parameters
    ----------
    images : Tensor
        (n, C, H, W), in the normalised space of the models.
    logits : Tensor
        (n, classes).
    """
    for name, values, largest in (
        ("images", images, LARGEST_PIXEL),
        ("logits", logits, LARGEST_LOGIT),
    ):
        # Not "> largest": NaN is larger than nothing.
        if len(values) and not float(values.abs().max()) <= largest:
            return f"{name!r} holds values beyond ±{largest:g}"
    return ""
