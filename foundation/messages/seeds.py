"""The random numbers of one client's training."""

from __future__ import annotations

import torch

from foundation.seeds import TRAINING, derived_seed


def training_generator(seed: int, server_round: int, client: int) -> torch.Generator:
    """Return the CPU generator of one client's training in one round."""
    return torch.Generator().manual_seed(derived_seed(seed, TRAINING, server_round, client))
