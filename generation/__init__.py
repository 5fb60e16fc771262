"""Pseudo data from trained models: inversion of local models and the data generation principle.

A library of its own: tensors, modules and plain arguments in, tensors out.
"""

from foundation.settings import InversionSettings

from .acceleration import forward_operations
from .engine import (
    Inversion,
    InversionEngine,
    InversionError,
    PixelRange,
    UninvertibleModel,
    implausible,
    invert,
)
from .principle import budgets, class_balanced, draw_labels, quality, shares
from .pseudo_data import Generation, PseudoData, generate, quality_losses

__all__ = [
    "Generation",
    "Inversion",
    "InversionEngine",
    "InversionError",
    "InversionSettings",
    "PixelRange",
    "PseudoData",
    "UninvertibleModel",
    "budgets",
    "class_balanced",
    "draw_labels",
    "forward_operations",
    "generate",
    "implausible",
    "invert",
    "quality",
    "quality_losses",
    "shares",
]
