"""Which device to compute on."""

from __future__ import annotations

import torch
from torch import nn


def resolve_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda`` means on this machine.

    Raises
    ------
    ValueError
        If CUDA is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda', but this machine has no usable CUDA device")
    return torch.device(name)


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's parameters are; the CPU for a model that has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


# Below this, splitting a layer over threads costs more than it saves. Measured on 2 cores with
# batches of 16 8x8 images through a four-stage residual network (2e6 operations an image): 9 ms of
# CPU time a step on one thread, 20 ms on two for nothing; and with another process on the machine,
# threads that wait for each other made a step 30 times slower.
_WORTH_THREADS = 1e7


def fit_threads(operations_per_image: float, most: int, wish: int = 0) -> None:
    """Choose the CPU threads of this process's tensor operations.

    Parameters
    ----------
    operations_per_image : float
        Floating-point operations of one image's forward pass. A model that needs few gets one
        thread: more would only wait for each other.
    most : int
        This process's share of the machine's processors.
    wish : int (default: 0)
        Number that somebody asked for, and gets; 0: nobody did.
    """
    fitting = most if operations_per_image >= _WORTH_THREADS else 1
    torch.set_num_threads(wish or fitting)
