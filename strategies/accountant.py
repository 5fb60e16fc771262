"""What a number of noisy sums gives away, exactly: ε at δ of composed Gaussian mechanisms.

A sum of vectors of norm C or less, with noise of standard deviation z·C, is μ-Gaussian
differentially private with μ = 1/z for who gave one of the vectors; T of them, each chosen with
knowledge of those before, with μ = √T/z (Dong, Roth and Su 2022, corollary 3.3). For μ, ε and δ
belong together as in Balle and Wang 2018, theorem 8. No bound is involved, as one is where rounds
are drawn in secret: who takes part in a round follows from the run's seed, which is no secret.
"""

import math

from scipy.special import log_ndtr, ndtr

# Above this, ε means nothing any more.
_MOST = 1e6
_TOLERANCE = 1e-9


def delta_of(noise_multiplier: float, releases: int, epsilon: float) -> float:
    """Return δ = Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ) for so many noisy sums, one or more.

    ``noise_multiplier`` is z, above 0; ε is 0 or more.
    """
    mu = math.sqrt(releases) / noise_multiplier
    right = math.exp(min(0.0, epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))))
    return max(0.0, float(ndtr(mu / 2 - epsilon / mu)) - right)


def epsilon_of(noise_multiplier: float, releases: int, delta: float) -> float:
    """Return the least ε that holds at δ for so many noisy sums; 0 where there was none.

    It is infinite beyond a million.
    """
    if releases == 0 or delta_of(noise_multiplier, releases, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while delta_of(noise_multiplier, releases, high) > delta:
        low, high = high, 2 * high
        if high > _MOST:
            return math.inf
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        above = delta_of(noise_multiplier, releases, middle) > delta
        low, high = (middle, high) if above else (low, middle)
    return high
