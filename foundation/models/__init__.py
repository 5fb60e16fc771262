"""Classifiers for small images, and what a model's state consists of."""

from .classifier import Classifier as Classifier
from .device import bfloat16_pays as bfloat16_pays
from .device import device_of as device_of
from .device import fit_threads as fit_threads
from .device import gpu_shares as gpu_shares
from .device import gpus_of as gpus_of
from .device import native_bfloat16 as native_bfloat16
from .device import release_memory as release_memory
from .device import resolve_device as resolve_device
from .directory import ModelDescription as ModelDescription
from .directory import ModelDirectoryError as ModelDirectoryError
from .directory import read_model as read_model
from .directory import write_model as write_model
from .registry import build as build
from .state import State as State
from .state import StateLayout as StateLayout
from .state import cpu_state as cpu_state
from .state import digest_of as digest_of
from .state import first_non_finite as first_non_finite
from .state import interpolated as interpolated
from .state import load_state as load_state
from .state import state_difference as state_difference
