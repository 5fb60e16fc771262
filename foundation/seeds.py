"""Randomness that depends on what it is for, and on nothing that came before.

Every use of the run's seed draws from a stream of its own, named by purpose, round and client. A
resumed run, another engine or another order of clients therefore sees the same numbers.
"""

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
