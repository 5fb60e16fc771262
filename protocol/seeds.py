"""The generators that server and clients draw from; see :mod:`foundation.seeds`."""

from __future__ import annotations

import torch

from foundation.seeds import MODEL, SAMPLING, TRAINING, derived_seed

__all__ = ["MODEL", "SAMPLING", "derived_seed", "training_generator"]


def training_generator(seed: int, server_round: int, client: int) -> torch.Generator:
    """Return the CPU generator of one client's training in one round."""
    return torch.Generator().manual_seed(derived_seed(seed, TRAINING, server_round, client))
