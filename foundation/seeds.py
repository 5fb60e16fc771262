"""Randomness that depends on what it is for, and on nothing that came before.

Every use of the run's seed draws from a stream of its own, named by purpose, round and client. A
resumed run, another engine or another order of clients therefore sees the same numbers.
"""

import pickle
import random

import numpy as np
import torch
from torch import Tensor

#: What a seed is for. A number that is in use keeps its meaning, so that old runs can be repeated.
SAMPLING, TRAINING, MODEL, GENERATION, DISTILLATION, LABELS, INVERSION, CALIBRATION = range(1, 9)


def derived_seed(seed: int, purpose: int, *position: int) -> int:
    """Return a seed in [0, 2**32) for one purpose at one position (round, client, …) of a run.

    ``seed`` is the run's, or one derived from it; the purpose is one of this module's constants.
    """
    return int(np.random.SeedSequence([seed, purpose, *position]).generate_state(1, np.uint32)[0])


def training_generator(seed: int, server_round: int, client: int) -> torch.Generator:
    """Return the CPU generator of one client's training in one round."""
    return torch.Generator().manual_seed(derived_seed(seed, TRAINING, server_round, client))


def sent(drawn: Tensor, device: torch.device) -> Tensor:
    """Copy what was drawn on the processor to a device.

    A GPU would first end all that it was told before, except where the memory is pinned.
    """
    if device.type != "cuda":
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)


def drawn_on_processor() -> tuple[object, ...]:
    """Return how far the processor's random numbers were drawn."""
    torchs = torch.get_rng_state().numpy().tobytes()
    return torchs, random.getstate(), pickle.dumps(np.random.get_state())


def drawn_on(device: torch.device) -> Tensor:
    """Return how far a device's were drawn, for :func:`draw_from`."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def draw_from(drawn: Tensor, device: torch.device) -> None:
    """Have a device draw on from where it was."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(drawn, device)
    else:
        torch.set_rng_state(drawn)
