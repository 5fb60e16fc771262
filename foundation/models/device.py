"""Which device to compute on, and whether it gains by computing in bfloat16."""

import gc
import os
import time
from collections.abc import Mapping
from functools import cache

import torch
from torch import nn

from foundation.capture import cuda_graphs

# Which of the GPUs a process computes on that shares the work of another (see gpu_shares).
_OWN_GPU = "FEDF2DG_GPU"


def resolve_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` means in this process.

    A ValueError says that CUDA is asked for and there is none, or no GPU of that number.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if not gpus:
        raise ValueError(f"device = {name!r}, but this machine has no usable CUDA device")
    own = os.environ.get(_OWN_GPU, "")
    device = torch.device(name if ":" in name else f"cuda:{own}" if own else "cuda")
    if device.index is not None and device.index >= gpus:
        there = ", ".join(f"cuda:{index}" for index in range(gpus))
        raise ValueError(f"device = {name!r}, but this machine has {there}")
    return device


def gpus_of(name: str) -> list[int]:
    """Return the numbers of the GPUs that a device means; see :func:`resolve_device`."""
    device = resolve_device(name)
    if device.type != "cuda":
        return []
    return list(range(torch.cuda.device_count())) if device.index is None else [device.index]


def gpu_shares(name: str) -> list[dict[str, str]]:
    """Return what to tell processes that share out this one's work, so that each has a GPU.

    Environment variables for each GPU of a device: the k-th process takes the (k mod length)-th.
    Empty where the work is done on the processor.
    """
    return [{_OWN_GPU: str(index)} for index in gpus_of(name)]


def release_memory(device: torch.device) -> None:
    """Give the memory that a stage used on a device back to it, for the next stage's other sizes.

    PyTorch keeps what was freed in pieces of the sizes that were asked for.
    """
    if device.type == "cuda":
        cuda_graphs.cache_clear()
        gc.collect()
        torch.cuda.empty_cache()


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

    A model that needs few floating-point operations for an image's forward pass gets one thread:
    more would only wait for each other. Others get ``most``, this process's share of the machine's
    processors. ``wish`` is a number that somebody asked for, and gets; 0: nobody did.
    """
    fitting = most if operations_per_image >= _WORTH_THREADS else 1
    torch.set_num_threads(wish or fitting)


# The answer of a measurement, for the processes that this one starts: a run has one precision.
_REMEMBERED = "FEDF2DG_BFLOAT16"
# A smaller gain may be chance, and is not worth the digits.
_GAIN = 0.9
_REPETITIONS = 8


def native_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware rather than by emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (_knows("avx512_bf16") or _knows("amx_bf16"))


def bfloat16_pays(device: torch.device) -> bool:
    """Whether training in bfloat16 is faster on a device than in float32.

    GPUs with bfloat16, and processors with its matrix unit (AMX), always gain. Processors that only
    have the vector instruction (AVX512-BF16) gain or lose, by their make: there a few steps of a
    small network are timed, a tenth of a second, once in a process and for all that it starts.
    """
    if not native_bfloat16(device):
        return False
    return device.type != "cpu" or _knows("amx_bf16") or _measured_gain()


def reduced_type(
    wish: str, device: torch.device, operations: float, gains_from: Mapping[str, float]
) -> torch.dtype | None:
    """Return the type that a key ``precision`` means for a model; None: float32.

    auto is bfloat16 where it pays, from so many operations of an image's forward pass on as
    ``gains_from`` says by kind of device.
    """
    if wish == "auto":
        # A GPU without bfloat16 does not refuse it: it emulates, slower than float32.
        enough = operations >= gains_from.get(device.type, float("inf"))
        wish = "bfloat16" if enough and bfloat16_pays(device) else "float32"
    return torch.bfloat16 if wish == "bfloat16" else None


def _knows(instruction: str) -> bool:
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get(instruction))


@cache
def _measured_gain() -> bool:
    if os.environ.get(_REMEMBERED, "") not in ("yes", "no"):
        seconds = step_seconds()
        gains = seconds[torch.bfloat16] < _GAIN * seconds[torch.float32]
        os.environ[_REMEMBERED] = "yes" if gains else "no"
    return os.environ[_REMEMBERED] == "yes"


def step_seconds() -> dict[torch.dtype, float]:
    """Time a training step of a small network on one thread, in seconds of CPU time by precision.

    Each is the shortest of a few, taken in turns, so that other programs do not decide.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            layers: list[nn.Module] = []
            for _ in range(3):
                layers += [nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
            model = nn.Sequential(*layers).to(memory_format=torch.channels_last)
            images = torch.randn(16, 32, 16, 16).contiguous(memory_format=torch.channels_last)
            taken: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
            for _ in range(_REPETITIONS + 1):
                for dtype, seconds in taken.items():
                    began = time.thread_time()
                    with torch.autocast("cpu", dtype=dtype, enabled=dtype is torch.bfloat16):
                        loss = model(images).square().mean()
                    loss.backward()
                    seconds.append(time.thread_time() - began)
    finally:
        torch.set_num_threads(threads)
    # The first step of each also prepares the kernels.
    return {dtype: min(seconds[1:]) for dtype, seconds in taken.items()}
