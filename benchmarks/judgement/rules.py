"""Rules of judgement, tried on held-out sets drawn again and again from images of known answers.

The test images are the population: a candidate's true accuracy is its accuracy on all of them, and
a client's held-out images are drawn from them with replacement, class by class, as many as the
share of its training images would be. So nothing that is judged was seen in training, and there is
no optimism to correct. Accuracies count a federation's classes as its clients hold them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.scores import paired_standard_error

Array = npt.NDArray[np.float64]
Rule = Callable[[Array, Array], npt.NDArray[np.int64]]
"""From gains and standard errors, (draws, 5) with λ = 0 first, to the candidate chosen."""


def best_beyond(factor: float) -> Rule:
    """Take the largest gain if it exceeds ``factor`` standard errors; below 0: evidence against."""

    def rule(gains: Array, errors: Array) -> npt.NDArray[np.int64]:
        best = gains[:, 1:].argmax(1) + 1
        rows = np.arange(len(gains))
        return np.where(gains[rows, best] > factor * errors[rows, best], best, 0)

    return rule


def lower_bound(factor: float) -> Rule:
    """Take the largest gain minus ``factor`` standard errors, if that is above 0."""

    def rule(gains: Array, errors: Array) -> npt.NDArray[np.int64]:
        bound = gains - factor * errors
        bound[:, 0] = 0.0
        return np.asarray(bound.argmax(1))

    return rule


def against(factor: float) -> Rule:
    """Take the whole step if its gain is -``factor`` errors or more; else as ``best_beyond(1)``."""

    def rule(gains: Array, errors: Array) -> npt.NDArray[np.int64]:
        unharmed = gains[:, -1] >= -factor * errors[:, -1]
        return np.where(unharmed, gains.shape[1] - 1, best_beyond(1)(gains, errors))

    return rule


def whole(proof: float, against: float | None = None) -> Rule:
    """Take λ = 1 or λ = 0: by evidence for it, or unless there is evidence against it."""

    def rule(gains: Array, errors: Array) -> npt.NDArray[np.int64]:
        factor = proof if against is None else -against
        return np.where(gains[:, -1] > factor * errors[:, -1], gains.shape[1] - 1, 0)

    return rule


def part_if_sure(proof: float, sure: float) -> Rule:
    """As ``lower_bound(proof)``, but λ < 1 only where it exceeds λ = 1 by ``sure`` errors of both.

    The error of a difference of two gains is at most the root of the sum of their squares, where
    the gains go together.
    """

    def rule(gains: Array, errors: Array) -> npt.NDArray[np.int64]:
        last = gains.shape[1] - 1
        beyond = gains - gains[:, -1:] - sure * np.hypot(errors, errors[:, -1:])
        beyond[:, 0] = -np.inf
        beyond[:, -1] = 0.0
        best = np.where(beyond.max(1) > 0, beyond.argmax(1), last)
        rows = np.arange(len(gains))
        return np.where(gains[rows, best] > proof * errors[rows, best], best, 0)

    return rule


def posterior(mean: float, spread: float) -> Rule:
    """Take the largest posterior mean under a normal prior of the gain, N(λ·mean, (λ·spread)²)."""

    def rule(gains: Array, errors: Array) -> npt.NDArray[np.int64]:
        steps = np.linspace(0, 1, gains.shape[1])
        precision = 1 / np.maximum(steps * spread, 1e-9) ** 2
        expected = (gains / errors**2 + steps * mean * precision) / (1 / errors**2 + precision)
        expected[:, 0] = 0.0
        return np.asarray(expected.argmax(1))

    return rule


RULES: dict[str, Rule] = {
    "always λ = 1": lambda gains, _: np.full(len(gains), gains.shape[1] - 1),
    "max": best_beyond(0.0),
    "max, gain > 0.5 SE": best_beyond(0.5),
    "max, gain > 1 SE": best_beyond(1.0),
    "max, gain > 1.64 SE": best_beyond(1.64),
    "max of gain - 0.5 SE": lower_bound(0.5),
    "max of gain - 1 SE": lower_bound(1.0),
    "λ = 1 unless < 0": against(0.0),
    "λ = 1 unless < -0.5 SE": against(0.5),
    "λ = 1 unless < -1 SE": against(1.0),
    "λ = 1 if > 0.5 SE": whole(0.5),
    "λ = 1 if > -1 SE, else 0": whole(0.0, 1.0),
    "λ = 1 if > -0.5 SE, else 0": whole(0.0, 0.5),
    "λ = 1 if >= 0, else 0": whole(-1e-9),
    "0.5 SE, part if sure by 0.5": part_if_sure(0.5, 0.5),
    "0.5 SE, part if sure by 1": part_if_sure(0.5, 1.0),
    "0.5 SE, part if sure by 2": part_if_sure(0.5, 2.0),
    "prior +2 ± 3 points": posterior(0.02, 0.03),
    "prior 0 ± 5 points": posterior(0.0, 0.05),
    "prior -2 ± 5 points": posterior(-0.02, 0.05),
}


@dataclass(frozen=True)
class Outcome:
    """What a rule comes to, over draws of the held-out images; points are percentage points.

    Parameters
    ----------
    gain : float
        Mean true gain of what was chosen, in points.
    harm : float
        Share of the draws in which what was chosen is more than one point worse.
    kept : float
        Share of the draws in which λ = 0 was chosen.
    """

    gain: float
    harm: float
    kept: float


def held_out_counts(counts: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    """Return (classes,) held-out images of all clients: one at least of ten or more of a class."""
    held_out = np.rint(share * counts).astype(np.int64)
    held_out[(held_out == 0) & (counts >= 10)] = 1
    total: npt.NDArray[np.int64] = held_out.sum(0)
    return total


def try_rules(
    table: Mapping[str, npt.NDArray[np.generic]],
    result: str,
    share: float,
    rules: Mapping[str, Rule],
    *,
    draws: int,
    seed: int = 0,
) -> tuple[int, Array, dict[str, Outcome]]:
    """Draw held-out sets and let every rule judge one result of post-training.

    Returns
    -------
    tuple
        Held-out images, the five candidates' true gains in points, and each rule's outcome.
    """
    labels, flags = table["labels"], np.asarray(table[result], dtype=np.int64)
    weights = table["counts"].sum(0).astype(float)
    per_class = held_out_counts(table["counts"].astype(np.int64), share)
    generator = np.random.default_rng(seed)
    true = np.zeros(len(flags))
    gained, lost = np.zeros((draws, len(flags))), np.zeros((draws, len(flags)))
    for label, images in enumerate(per_class):
        members = flags[:, labels == label]
        true += weights[label] / weights.sum() * members.mean(1)
        differs = members - members[0]
        # Images that the candidates judge alike are interchangeable: draw the kinds of images.
        kinds, frequency = np.unique(differs, axis=1, return_counts=True)
        drawn = generator.multinomial(images, frequency / frequency.sum(), size=draws)
        gained += drawn @ (kinds == 1).T
        lost += drawn @ (kinds == -1).T
    total = int(per_class.sum())
    gains, errors = (gained - lost) / total, paired_standard_error(gained, lost, total)
    true_gains = 100 * (true - true[0])
    outcomes = {}
    for name, rule in rules.items():
        chosen = rule(gains.copy(), errors)
        got = true_gains[chosen]
        outcomes[name] = Outcome(got.mean(), (got < -1).mean(), (chosen == 0).mean())
    return total, true_gains, outcomes
