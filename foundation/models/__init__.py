"""Classifiers for small images, and what a model's state consists of."""

from .classifier import Classifier
from .device import (
    bfloat16_pays,
    device_of,
    fit_threads,
    gpu_shares,
    gpus_of,
    native_bfloat16,
    release_memory,
    resolve_device,
)
from .directory import (
    ModelDescription,
    ModelDirectoryError,
    read_model,
    write_model,
)
from .registry import build
from .state import (
    State,
    StateLayout,
    cpu_state,
    first_non_finite,
    interpolated,
    load_state,
    size_in_bytes,
    state_difference,
)
from .timm_models import PREFIX as TIMM

__all__ = [
    "TIMM",
    "Classifier",
    "ModelDescription",
    "ModelDirectoryError",
    "State",
    "StateLayout",
    "bfloat16_pays",
    "build",
    "cpu_state",
    "device_of",
    "first_non_finite",
    "fit_threads",
    "gpu_shares",
    "gpus_of",
    "interpolated",
    "load_state",
    "native_bfloat16",
    "read_model",
    "release_memory",
    "resolve_device",
    "size_in_bytes",
    "state_difference",
    "write_model",
]
