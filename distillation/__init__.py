"""Knowledge distillation of pseudo data into the global model.

A library of its own: tensors, modules and plain arguments in, tensors out.
"""

from foundation.settings import DistillationSettings, Statistics

from .layers import chosen_layers, trained_parameters
from .training import Distillation, DistillationError, distil, distillation_loss

__all__ = [
    "Distillation",
    "DistillationError",
    "DistillationSettings",
    "Statistics",
    "chosen_layers",
    "distil",
    "distillation_loss",
    "trained_parameters",
]
