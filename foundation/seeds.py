"""Randomness that depends on what it is for, and on nothing that came before.

Every use of the run's seed draws from a stream of its own, named by purpose, round and client. A
resumed run, another engine or another order of clients therefore sees the same numbers.
"""

from __future__ import annotations

import numpy as np
import torch

#: What a seed is for. A number that is in use keeps its meaning, so that old runs can be repeated.
SAMPLING, TRAINING, MODEL, GENERATION, DISTILLATION, LABELS, INVERSION, CALIBRATION = range(1, 9)


def derived_seed(seed: int, purpose: int, *position: int) -> int:
    """Return a seed for one purpose at one position (round, client, batch …) of a run.

    Parameters
    ----------
    seed : int
        The run's seed, or one that was derived from it, 0 or more.
    purpose : int
        One of this module's constants.
    *position : int
        Where in the run, 0 or more each.

    Returns
    -------
    int
        In [0, 2**32).
    """
    return int(np.random.SeedSequence([seed, purpose, *position]).generate_state(1, np.uint32)[0])


def training_generator(seed: int, server_round: int, client: int) -> torch.Generator:
    """Return the CPU generator of one client's training in one round."""
    return torch.Generator().manual_seed(derived_seed(seed, TRAINING, server_round, client))
