"""How good a classifier is, from sums that reveal no single image, each figure with an interval.

What a model says of labelled images is added up to an :class:`Outcomes`: a confusion matrix, the
sum of losses, bins of confidence, and a histogram of every class's score. Outcomes of several sites
add up to those of all their images, and every figure of the field can be computed from them.

Intervals are of 95 %, for other images of the same kind: Wilson (1927) for shares of images;
Newcombe (2006), method 5, for areas under the curve; for means of shares the recovery of variances
from their limits (Zou and Donner 2008); the normal one for the log loss.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Standard normal quantile: 95 % lie within so many standard errors.
Z = 1.959964
#: Equal bins of confidence (Guo et al. 2017, "On calibration of modern neural networks").
BINS = 15
#: Bins of a class's score: half a unit of log-odds wide, from -16 to 16; the outer ones are open.
SCORE_BINS = 64
_LOG_ODDS = 16.0
_BRIEF_CLASSES = 20
#: Figures of fewer images than this are marked: their intervals span more than 40 points.
FEW = 20


@dataclass(frozen=True)
class Outcomes:
    """What a model says of n images of C classes, added up."""

    images: int
    #: How many are classified correctly.
    right: int
    #: Sums of the cross-entropies (natural logarithm) and of their squares; infinite for a model
    #: whose outputs are not finite.
    loss: float
    loss_squares: float
    #: (3, BINS) images, images classified correctly and sum of confidences (the largest
    #: probability), by confidence.
    bins: Floats
    #: (C, C) images by true class (row) and predicted class; None where classes are kept back.
    confusion: Counts | None = None
    #: (2, C, SCORE_BINS) by the score of a class: the images of the class, and all others.
    histograms: Counts | None = None

    @classmethod
    def counted(
        cls,
        logits: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        *,
        by_class: bool = True,
        exact: bool = False,
    ) -> Self:
        """Add up over images, without classes if these may not be told apart.

        Logits (n, C) are natural logarithms of the probabilities, up to a constant per image; an
        image with one that is not finite is never classified correctly. ``exact`` makes a bin of
        every score: exact areas, but no sum with other outcomes.
        """
        values: Floats = np.asarray(logits, np.float64)
        truth: Counts = np.asarray(labels, np.int64)
        finite = np.asarray(np.isfinite(values).all(axis=1))
        log_probabilities = _log_softmax(np.where(finite[:, None], values, 0.0))
        # As torch's argmax counts: a class that is not a number is the largest.
        predicted = values.argmax(axis=1) if len(values) else truth
        right = (predicted == truth) & finite
        losses = np.where(finite, -log_probabilities[np.arange(len(truth)), truth], np.inf)
        confidence = np.where(finite, np.exp(log_probabilities.max(axis=1, initial=-np.inf)), 0.0)
        place = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)
        columns = (np.ones(len(truth)), right.astype(np.float64), confidence)
        bins = np.array([np.bincount(place, column, BINS) for column in columns], np.float64)
        confusion = histograms = None
        if by_class:
            classes = values.shape[1]
            # Without finite outputs an image is wrong whatever its argmax: the next class has it.
            told = np.where(finite | (predicted != truth), predicted, (truth + 1) % max(classes, 1))
            confusion = np.bincount(truth * classes + told, minlength=classes**2)
            confusion = confusion.reshape(classes, classes)
            other = truth[:, None] != np.arange(classes)
            scores, size = _score_bins(log_probabilities), SCORE_BINS
            if exact:  # every score a bin of its own
                ranks = [np.unique(of, return_inverse=True)[1] for of in log_probabilities.T]
                scores, size = np.stack(ranks, axis=1), len(truth)
            cells = (other * classes + np.arange(classes)) * size + scores
            histograms = np.bincount(cells.reshape(-1), minlength=2 * classes * size)
            histograms = histograms.reshape(2, classes, size)
        squares = float((losses**2).sum())
        total = float(losses.sum())
        return cls(len(truth), int(right.sum()), total, squares, bins, confusion, histograms)

    @classmethod
    def partly(cls, images: int, right: int, confusion: Counts | None = None) -> Self:
        """Return what is known where nobody told losses, confidences and scores."""
        return cls(images, right, math.nan, math.nan, np.zeros((3, BINS)), confusion)

    @classmethod
    def sum(cls, parts: Sequence[Self]) -> Self | None:
        """Add up those of several sites; by class only where all tell. None of nobody."""
        if not parts:
            return None
        return cls(
            sum(part.images for part in parts),
            sum(part.right for part in parts),
            sum(part.loss for part in parts),
            sum(part.loss_squares for part in parts),
            np.sum([part.bins for part in parts], axis=0),
            _added([part.confusion for part in parts]),
            _added([part.histograms for part in parts]),
        )

    def as_json(self, *, brief: bool = False) -> dict[str, Any]:
        """Return it as a file holds it; in brief without the histograms of more than 20 classes."""
        histograms = self.histograms
        if brief and histograms is not None and histograms.shape[1] > _BRIEF_CLASSES:
            histograms = None
        return {
            "images": self.images,
            "right": self.right,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "loss_squares": self.loss_squares if math.isfinite(self.loss_squares) else None,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            # A line each, or a file that is indented would have one for every number.
            "bins": [" ".join(map(repr, row)) for row in self.bins.tolist()],
            "histograms": None
            if histograms is None
            else [[" ".join(map(str, row)) for row in side] for side in histograms.tolist()],
        }

    @classmethod
    def read(cls, found: Any) -> Self | None:
        """Read what :meth:`as_json` wrote; None for anything else."""
        if not isinstance(found, Mapping):
            return None
        try:
            loss, squares = found["loss"], found["loss_squares"]
            table, sides = found.get("confusion"), found.get("histograms")
            confusion = None if table is None else np.asarray(table, np.int64)
            histograms = None
            if sides is not None:
                rows = [[[int(count) for count in row.split()] for row in side] for side in sides]
                histograms = np.asarray(rows, np.int64)
            bins = np.asarray([[float(v) for v in row.split()] for row in found["bins"]])
            outcomes = cls(
                int(found["images"]),
                int(found["right"]),
                math.inf if loss is None else float(loss),
                math.inf if squares is None else float(squares),
                bins,
                confusion,
                histograms,
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        square = confusion is None or (confusion.ndim == 2 and len(set(confusion.shape)) == 1)
        known = histograms is None or histograms.ndim == 3
        return outcomes if bins.shape == (3, BINS) and square and known else None

    @property
    def labels(self) -> Counts | None:
        """(C,) images of each true class, if that is known."""
        return None if self.confusion is None else self.confusion.sum(axis=1)


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval and the images that it rests on; NaN where there are none."""

    value: float
    low: float
    high: float
    images: int

    @property
    def few(self) -> bool:
        """Whether so few images say little."""
        return self.images < FEW

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)


UNKNOWN = Figure(math.nan, math.nan, math.nan, 0)


def accuracy(outcomes: Outcomes) -> Figure:
    """Return the share of images that are classified correctly."""
    return _share(outcomes.right, outcomes.images)


def guessing(outcomes: Outcomes) -> float | None:
    """Return the share of the most frequent class: what always naming it would reach."""
    labels = outcomes.labels
    return None if labels is None or not outcomes.images else float(labels.max() / outcomes.images)


def with_images(outcomes: Outcomes) -> list[int]:
    """Return the classes that have images; none where classes are kept back."""
    return [] if outcomes.labels is None else np.flatnonzero(outcomes.labels).tolist()


def entropy(outcomes: Outcomes) -> float | None:
    """Return the log loss of answering the classes' shares for every image; None if not known."""
    if outcomes.labels is None or not outcomes.images:
        return None
    shares = outcomes.labels[outcomes.labels > 0] / outcomes.images
    return float((shares * -np.log(shares)).sum()) + 0.0  # the sum may be a negative zero


def recalls(outcomes: Outcomes) -> list[Figure]:
    """Return of each class's images the share that is named so (sensitivity)."""
    return [_share(true, true + missed) for true, _, missed, _ in _tables(outcomes)]


def precisions(outcomes: Outcomes) -> list[Figure]:
    """Return of the images that are named as a class the share that is of it."""
    return [_share(true, true + false) for true, false, _, _ in _tables(outcomes)]


def specificities(outcomes: Outcomes) -> list[Figure]:
    """Return of all other classes' images the share that is not named as a class."""
    return [_share(rest, rest + false) for _, false, _, rest in _tables(outcomes)]


def f1_scores(outcomes: Outcomes) -> list[Figure]:
    """Return the harmonic mean of precision and recall of each class.

    F1 = 2J/(1 + J) grows with J, the share of right ones among the images that are of the class or
    named so, whose interval is Wilson's.
    """
    found = []
    for true, false, missed, _ in _tables(outcomes):
        share = _share(true, true + false + missed)
        value, low, high = (2 * j / (1 + j) for j in (share.value, share.low, share.high))
        found.append(Figure(value, low, high, share.images))
    return found


def balanced_accuracy(outcomes: Outcomes) -> Figure:
    """Return the mean recall of the classes that have images."""
    parts = [recall for recall in recalls(outcomes) if recall.known]
    if not parts:
        return UNKNOWN
    mean = math.fsum(part.value for part in parts) / len(parts)
    low = math.hypot(*(part.value - part.low for part in parts)) / len(parts)
    high = math.hypot(*(part.high - part.value for part in parts)) / len(parts)
    return Figure(mean, max(0.0, mean - low), min(1.0, mean + high), outcomes.images)


def areas(outcomes: Outcomes) -> list[Figure]:
    """Return the area under each class's ROC curve, one against the rest.

    Scores in the same bin count as equal, half right: the value differs from that of single scores
    by at most half the share of pairs that share a bin.
    """
    if outcomes.histograms is None:
        return []
    found = []
    for own, others in zip(*outcomes.histograms, strict=True):
        positive, negative = int(own.sum()), int(others.sum())
        if not positive or not negative:
            found.append(UNKNOWN)
            continue
        below = np.concatenate([[0], np.cumsum(others)[:-1]])
        area = float((own * (below + others / 2)).sum() / (positive * negative))
        found.append(Figure(area, *_area_interval(area, positive, negative), positive))
    return found


def mean_area(outcomes: Outcomes) -> Figure:
    """Return the mean of the classes' areas (macro-averaged, one against the rest).

    The areas rest on the same images, so that the interval takes them to err together.
    """
    known = [area for area in areas(outcomes) if area.known]
    if not known:
        return UNKNOWN
    value, low, high = np.mean([(area.value, area.low, area.high) for area in known], axis=0)
    return Figure(float(value), float(low), float(high), outcomes.images)


def log_loss(outcomes: Outcomes) -> Figure:
    """Return the mean cross-entropy, in nats."""
    n = outcomes.images
    if not n:
        return UNKNOWN
    mean = outcomes.loss / n
    if math.isnan(mean):
        return UNKNOWN
    if not math.isfinite(mean) or n < 2:
        return Figure(mean, math.nan, math.nan, n)
    variance = max(0.0, outcomes.loss_squares / n - mean**2) * n / (n - 1)
    reach = Z * math.sqrt(variance / n)
    return Figure(mean, max(0.0, mean - reach), mean + reach, n)


def calibration_error(outcomes: Outcomes) -> Figure:
    """Return the expected calibration error: the mean gap of confidence and accuracy over bins.

    Guo et al. (2017). Of few images it is above that of many, as chance alone makes gaps.
    """
    n = outcomes.images
    if not outcomes.bins.any():
        return UNKNOWN
    total, low, high = 0.0, 0.0, 0.0
    for count, right, confidence in outcomes.bins.T:
        if not count:
            continue
        share, weight, mean = _share(int(right), int(count)), count / n, confidence / count
        gap = abs(share.value - mean)
        ends = [abs(share.low - mean), abs(share.high - mean)]
        least = 0.0 if share.low <= mean <= share.high else min(ends)
        total += weight * gap
        low += (weight * (gap - least)) ** 2
        high += (weight * (max(ends) - gap)) ** 2
    return Figure(total, max(0.0, total - low**0.5), min(1.0, total + high**0.5), n)


#: The figures of a model as one number each, by the name that files and sinks know them by.
OF_ALL = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auroc": mean_area,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}


def figures_sentence(outcomes: Outcomes) -> str:
    """Say the figures that are known, e.g. "balanced accuracy 0.81, log loss 0.53"."""
    found = {name: figure(outcomes) for name, figure in OF_ALL.items()}
    return ", ".join(
        f"{name.replace('_', ' ')} {figure.value:.3f}"
        for name, figure in found.items()
        if math.isfinite(figure.value)
    )


def abstaining(outcomes: Outcomes) -> list[tuple[float, Figure, Figure]]:
    """Return what is left where the model answers only if it is sure enough.

    A threshold of confidence (the lower end of a bin), the share of images that are answered, and
    the share of these that are right; from the lowest threshold that leaves some out.
    """
    found: list[tuple[float, Figure, Figure]] = []
    for place in range(BINS):
        answered, right = (int(outcomes.bins[row, place:].sum()) for row in (0, 1))
        if answered and (not found or outcomes.bins[0, place - 1]):
            shares = _share(answered, outcomes.images), _share(right, answered)
            found.append((place / BINS, shares[0], shares[1]))
    return found


def as_table(outcomes: Outcomes, names: Sequence[str]) -> dict[str, Any]:
    """Return all figures as plain values: of the whole, and by class where classes are told."""

    def plain(figure: Figure) -> dict[str, float | int | None]:
        ends = {"value": figure.value, "low": figure.low, "high": figure.high}
        known = {name: end if math.isfinite(end) else None for name, end in ends.items()}
        return {**known, "images": figure.images}

    columns = {
        "recall": recalls(outcomes),
        "precision": precisions(outcomes),
        "specificity": specificities(outcomes),
        "f1": f1_scores(outcomes),
        "auroc": areas(outcomes),
    }
    by_class = [
        {"class": name, **{key: plain(found[c]) for key, found in columns.items() if found}}
        for c, name in enumerate(names)
        if outcomes.confusion is not None
    ]
    return {
        "images": outcomes.images,
        "right": outcomes.right,
        "guessing": guessing(outcomes),
        **{name: plain(figure(outcomes)) for name, figure in OF_ALL.items()},
        "by_class": by_class,
        "confusion": None if outcomes.confusion is None else outcomes.confusion.tolist(),
    }


def never_named(outcomes: Outcomes) -> list[int]:
    """Return the classes that have images and are the answer to none."""
    if outcomes.confusion is None:
        return []
    named = outcomes.confusion.sum(axis=0)
    return [c for c, count in enumerate(outcomes.confusion.sum(axis=1)) if count and not named[c]]


def _tables(outcomes: Outcomes) -> list[tuple[int, int, int, int]]:
    """Return true positives, false positives, false negatives and true negatives of each class."""
    if outcomes.confusion is None:
        return []
    true, n = np.diagonal(outcomes.confusion), int(outcomes.confusion.sum())
    false, missed = outcomes.confusion.sum(axis=0) - true, outcomes.confusion.sum(axis=1) - true
    rows = zip(true.tolist(), false.tolist(), missed.tolist(), strict=True)
    return [(t, f, m, n - t - f - m) for t, f, m in rows]


def _share(part: int, whole: int) -> Figure:
    if not whole:
        return UNKNOWN
    return Figure(part / whole, *share_interval(part / whole, whole), whole)


def _area_interval(area: float, positive: int, negative: int) -> tuple[float, float]:
    """Return the limits θ at which |θ - area| is Z standard errors of an area θ.

    Newcombe (2006), Statistics in Medicine 25:559, method 5: Hanley and McNeil's variance with the
    mean of both numbers in place of each, solved as Wilson does, so that it stays within [0, 1].
    """
    from scipy.optimize import brentq  # takes a while to load, and few need it

    reach = (positive + negative) / 2 - 1

    def outside(theta: float) -> float:
        spread = 1 + reach * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - area) ** 2 - Z**2 * theta * (1 - theta) * spread / (positive * negative)

    low = brentq(outside, 0.0, area) if area > 0 and outside(0.0) > 0 else 0.0
    high = brentq(outside, area, 1.0) if area < 1 and outside(1.0) > 0 else 1.0
    if area == 1.0:
        low = brentq(outside, 0.0, 1.0 - 1e-12)
    if area == 0.0:
        high = brentq(outside, 1e-12, 1.0)
    return float(low), float(high)


def _added(tables: Sequence[Counts | None]) -> Counts | None:
    known = [table for table in tables if table is not None]
    return np.sum(known, axis=0) if len(known) == len(tables) else None


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def _score_bins(log_probabilities: Floats) -> Counts:
    """Return the bin of every score: log(p / (1 - p)), in half units."""
    with np.errstate(divide="ignore"):
        odds = log_probabilities - np.log(-np.expm1(log_probabilities))
    width = 2 * _LOG_ODDS / SCORE_BINS
    place = np.floor((np.clip(odds, -_LOG_ODDS, _LOG_ODDS) + _LOG_ODDS) / width)
    return np.clip(place, 0, SCORE_BINS - 1).astype(np.int64)


def share_interval(share: float, images: int) -> tuple[float, float]:
    """Return the interval of a share of images by Wilson (1927), within [0, 1]."""
    weight = Z * Z / images
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / images + weight / (4 * images)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_interval(after: float, before: float, images: int) -> tuple[float, float]:
    """Return the interval of a difference of two shares of as many images by Newcombe (1998).

    His method 10 is for two independent samples. Two models on the same images are often right
    together, which makes the difference more certain than this says.
    """
    low_after, high_after = share_interval(after, images)
    low_before, high_before = share_interval(before, images)
    difference = after - before
    return (
        difference - math.hypot(after - low_after, high_before - before),
        difference + math.hypot(high_after - after, before - low_before),
    )


@dataclass(frozen=True)
class Gain:
    """A mean difference over the same images, with its standard error."""

    value: float
    standard_error: float

    @classmethod
    def of_counts(cls, gained: int, lost: int, images: int) -> Self:
        """Return how much more often a model is right than another on the same images, at least 1.

        ``gained`` and ``lost`` are those that only the one, and only the other, has right.
        """
        error = float(paired_standard_error(gained, lost, images))
        return cls((gained - lost) / images, error)

    @property
    def half_width(self) -> float:
        """Half the 95 % interval."""
        return Z * self.standard_error

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.value + self.half_width

    @property
    def undecided(self) -> bool:
        """Whether 0 is in the interval: it may be chance."""
        return abs(self.value) <= self.half_width


def paired_standard_error(gained: Any, lost: Any, images: Any, added: float = 1.0) -> Any:
    """Return the standard error of a difference of two accuracies on the same images, above 0.

    ``gained`` and ``lost`` are the images that only the candidate, and only λ = 0, classifies
    correctly. The difference is the mean over images of d ∈ {-1, 0, 1}, whose variance is (g + l)/n
    - ((g - l)/n)². Half an image is added to g and to l (as Agresti and Min 2005 do): without it a
    single image judged differently would exceed its own standard error, and none would mean
    certainty; ``added`` is both together.

    The clients are all the clients there are, so that they are strata and not clusters drawn at
    random. The variance within strata is at most that of the pool, which is what is returned: with
    a handful of images a client's own variance says little.
    """
    discordant = gained + lost + added
    return (discordant - (gained - lost) ** 2 / (images + added)) ** 0.5 / images


def balanced_gain(gained: Counts, lost: Counts, total: Counts) -> Gain:
    """Return how much larger the mean recall of a model is than another's on the same images.

    All are (C,), by class; classes without an image do not count. Every class is a stratum, whose
    gain and error are those of :func:`paired_standard_error`; of the one image that is added there,
    each class has its share.
    """
    known = total > 0
    classes = int(known.sum())
    gained, lost, total = gained[known], lost[known], total[known]
    errors = paired_standard_error(gained, lost, total, 1 / classes)
    value = float(((gained - lost) / total).mean())
    return Gain(value, float(np.hypot.reduce(errors)) / classes)


def mean_gain(total: float, squares: float, images: int) -> Gain:
    """Return the mean of n differences by their sum and the sum of their squares.

    A single one tells nothing of how they vary: its error is infinite.
    """
    mean = total / images
    if images < 2:
        return Gain(mean, math.inf)
    return Gain(mean, math.sqrt(max(0.0, squares / images - mean**2) / (images - 1)))


@dataclass(frozen=True)
class Metric:
    """By what two models are compared; gains of it are said as so many ``unit``."""

    unit: str = "points"
    scale: float = 100.0
    decimals: int = 1

    def signed(self, gain: float, standard_error: float) -> str:
        """Return a gain with half its interval: "+1.7 ± 10.4 points"."""
        half = self.scale * Z * standard_error
        return f"{self.scale * gain:+.{self.decimals}f} ± {half:.{self.decimals}f} {self.unit}"

    def said(self, gain: float, standard_error: float) -> str:
        """Return it in words: "gained 1.7 ± 10.4 points"."""
        word = "lost" if gain < 0 else "gained"
        return f"{word} {self.signed(abs(gain), standard_error).removeprefix('+')}"


#: By the value of the key ``acceptance-metric``; a loss that falls is a gain.
METRICS = {
    "accuracy": Metric(),
    "balanced-accuracy": Metric("points in balanced accuracy"),
    "log-loss": Metric("in log loss", 1.0, 3),
}


def metric_of(name: object) -> Metric:
    """Return the metric of a name; of one that a later release wrote, numbers without a unit."""
    return METRICS.get(str(name), Metric("", 1.0, 3))


#: An image's loss counts no more than this where losses are compared, as in scikit-learn: a single
#: answer that was sure and wrong, or a client that lies, moves no mean at will.
LARGEST_LOSS = -math.log(np.finfo(np.float64).eps)


def loss_changes(
    logits: Sequence[npt.NDArray[Any]], labels: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Return by how much each of K models lowers the losses of the first, and the squares.

    (2, K): sums over images of true classes ``labels`` (n,), of logits K times (n, C).
    """
    losses = []
    for values in logits:
        with np.errstate(invalid="ignore"):
            found = -_log_softmax(np.asarray(values, np.float64))[np.arange(len(labels)), labels]
        finite = np.isfinite(values).all(axis=1)
        losses.append(np.where(finite, np.minimum(found, LARGEST_LOSS), LARGEST_LOSS))
    lowered = losses[0] - np.stack(losses)
    return np.stack([lowered.sum(axis=1), (lowered**2).sum(axis=1)])
