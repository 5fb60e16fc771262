"""Whether a device gains by computing in bfloat16."""

from __future__ import annotations

import os
import time
from functools import cache

import torch
from torch import nn

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
    """Time a training step of a small network on one thread of this processor.

    Returns
    -------
    dict[torch.dtype, float]
        Seconds of CPU time in float32 and in bfloat16: the shortest of a few, taken in turns, so
        that other programs on the machine do not decide.
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
