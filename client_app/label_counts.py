"""What may be known of a client's labels outside of it.

``label-counts`` says it: the counts (``uploaded``), counts with noise (``noised``), or nothing
(``uniform``). The server asks for them only if it generates; a client that generates draws its
labels from the same counts, since the images it sends show what they were drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foundation.settings.configuration import RunConfiguration


def noised_counts(counts: Sequence[int], scale: float, random: np.random.Generator) -> list[int]:
    """Add Laplace noise to label counts (Dwork et al. 2006, "Calibrating Noise to Sensitivity").

    Adding or removing one image changes one count by 1, so the counts are ε-differentially
    private with ε = 1/scale (2/scale for exchanging one image for another). Rounding and clipping
    come after the noise and cost nothing.

    Parameters
    ----------
    counts : sequence of int
        Images per class.
    scale : float
        b of the Laplace distribution, in images, above 0.
    random : np.random.Generator
        Must not be derivable from anything the server knows, such as the run's seed.

    Returns
    -------
    list of int
        One number per class, 0 or more, not all 0 (all 1 if the noise left none).
    """
    if not scale > 0:
        raise ValueError(f"scale = {scale}: must be above 0")
    noise = random.laplace(0.0, scale, len(counts))
    noised = [max(0, round(count + extra)) for count, extra in zip(counts, noise, strict=True)]
    return noised if any(noised) else [1] * len(noised)


def shareable_counts(
    configuration: RunConfiguration, counts: Sequence[int], told: Sequence[int] | None = None
) -> list[int] | None:
    """Return what may leave the client of its label counts; None for nothing.

    Parameters
    ----------
    configuration : RunConfiguration
        ``label-counts`` and ``label-counts-noise``.
    counts : sequence of int
        The client's own.
    told : sequence of int, optional
        What was returned before in this run. Asked again, the client must repeat its noised
        counts: the mean of many draws would be the counts themselves.
    """
    if configuration.label_counts == "uniform":
        return None
    if told is not None:
        return [int(count) for count in told]
    own = [int(count) for count in counts]
    if configuration.label_counts == "noised":
        # Entropy of the operating system: the noise must stay unknown to the server.
        return noised_counts(own, configuration.label_counts_noise, np.random.default_rng())
    return own
