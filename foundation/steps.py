"""How many steps a pass over data takes: what a client does, and what the server expects of it."""

from __future__ import annotations


def steps_per_epoch(samples: int, batch_size: int, *, drop_singleton: bool) -> int:
    """Return the number of batches in one pass over a client's images.

    Parameters
    ----------
    samples : int
        Images of the client, 0 or more.
    batch_size : int
        Images per batch; the last batch may be smaller.
    drop_singleton : bool
        Whether a last batch of a single image is left out, on which BatchNorm cannot train.
    """
    full, rest = divmod(samples, batch_size)
    return full + (rest > (1 if drop_singleton else 0))
