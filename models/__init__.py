"""Classifiers for small images, and what a model's state consists of."""

from .classifier import Classifier
from .device import device_of, fit_threads, resolve_device
from .interpolation import interpolated
from .registry import MODELS, build
from .state import (
    State,
    StateLayout,
    cpu_state,
    first_non_finite,
    load_state,
    size_in_bytes,
    state_difference,
)

__all__ = [
    "MODELS",
    "Classifier",
    "State",
    "StateLayout",
    "build",
    "cpu_state",
    "device_of",
    "first_non_finite",
    "fit_threads",
    "interpolated",
    "load_state",
    "resolve_device",
    "size_in_bytes",
    "state_difference",
]
