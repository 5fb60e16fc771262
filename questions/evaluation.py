"""What do these models do on your held-out images? The clients' scores of candidates.

One message carries several candidates, since every message is a process start on a real client.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent
from foundation.models import State, interpolated, load_state
from foundation.scores import BINS, LARGEST_LOSS, SCORE_BINS, Outcomes, loss_changes

from .question import Question, Request, Site

Counts = npt.NDArray[np.int64]

_TABLES = ("total", "correct", "gained", "lost")
_MOST_CANDIDATES = 1000
#: With more classes than this a confusion matrix would be most of what travels: totals are told.
MOST_CLASSES = 100
# What sums of floats may differ by.
_ROUNDING = 1 + 1e-6


@dataclass(frozen=True)
class Scores:
    """What K candidates do on n held-out images, by class or in one column.

    ``total`` (L,) int64 are the images, L being the number of classes, or 1 where clients answer in
    totals alone. Of every candidate, (K, L) int64: ``correct`` are those that it classifies
    correctly, ``gained`` those that it has right and the first one wrong, and ``lost`` the other
    way round. ``loss`` (K,) float64 are sums of the cross-entropies, infinite for a model whose
    outputs are not finite; ``loss_changes`` those of :func:`.loss_changes`, if they were asked for.
    ``outcomes`` is what every candidate says, by class where clients tell 2
    to MOST_CLASSES.
    """

    total: Counts
    correct: Counts
    gained: Counts
    lost: Counts
    loss: npt.NDArray[np.float64]
    outcomes: tuple[Outcomes, ...] = ()
    loss_changes: npt.NDArray[np.float64] | None = None

    @classmethod
    def counted(
        cls,
        labels: npt.NDArray[np.int64],
        correct: npt.NDArray[np.bool_],
        loss: Sequence[float],
        columns: int,
        logits: Sequence[npt.NDArray[Any]] = (),
    ) -> Self:
        """Count over images of the classes ``labels`` (n,), in so many columns; 1: all together.

        ``correct`` is (K, n), ``loss`` are K sums, and ``logits`` K times (n, C); without, no
        outcomes.
        """
        column = labels if columns > 1 else np.zeros_like(labels)

        def count(chosen: npt.NDArray[np.bool_]) -> Counts:
            rows = [np.bincount(column[row], minlength=columns) for row in chosen]
            return np.array(rows, dtype=np.int64).reshape(len(chosen), columns)

        first = correct[:1]
        return cls(
            total=np.bincount(column, minlength=columns).astype(np.int64),
            correct=count(correct),
            gained=count(correct & ~first),
            lost=count(~correct & first),
            loss=np.array(loss, dtype=np.float64),
            outcomes=tuple(
                Outcomes.counted(values, labels, by_class=tells_classes(columns))
                for values in logits
            ),
        )

    @classmethod
    def sum(cls, parts: Sequence[Self]) -> Self | None:
        """Add up the scores of clients; None of nobody."""

        def added(name: str) -> Any:
            return np.sum([getattr(part, name) for part in parts], axis=0)

        if not parts:
            return None
        outcomes = zip(*(part.outcomes for part in parts), strict=True)
        summed = [total for one in outcomes if (total := Outcomes.sum(one)) is not None]
        tables = {name: added(name) for name in (*_TABLES, "loss")}
        paired = all(part.loss_changes is not None for part in parts)
        changes = added("loss_changes") if paired else None
        return cls(**tables, outcomes=tuple(summed), loss_changes=changes)

    @classmethod
    def checked(
        cls, reply: Received, held_out: Sequence[int], candidates: int, losses: bool = True
    ) -> Self:
        """Read what :meth:`content` wrote of images in these columns, without the outcomes.

        Without ``losses`` none are told, and those here are not numbers.
        """
        columns, most = len(held_out), max(held_out, default=0)
        total = np.array(reply.whole_numbers("total", columns, most), dtype=np.int64)
        if total.tolist() != list(held_out):
            raise InvalidContent(
                f"it evaluated {int(total.sum())} images of other classes or number than the "
                f"{sum(held_out)} that it joined with"
            )

        def table(name: str) -> Counts:
            values = reply.whole_numbers(name, candidates * columns, most)
            return np.array(values, dtype=np.int64).reshape(candidates, columns)

        correct, gained, lost = table("correct"), table("gained"), table("lost")
        first = correct[:1]
        if (correct > total).any():
            raise InvalidContent("it says that more images are classified correctly than there are")
        if (correct - first != gained - lost).any():
            raise InvalidContent(
                "gains and losses do not add up to the difference of two candidates"
            )
        if gained[0].any() or (lost > first).any() or (gained > total - first).any():
            raise InvalidContent("it gained or lost images that the first candidate cannot give")
        loss = reply.losses("loss", candidates) if losses else [math.nan] * candidates
        return cls(total, correct, gained, lost, np.array(loss, dtype=np.float64))

    @property
    def tables(self) -> dict[str, Counts]:
        """The counts by name."""
        return {name: getattr(self, name) for name in _TABLES}

    @property
    def images(self) -> int:
        """The number of images, n."""
        return int(self.total.sum())

    def accuracy(self, candidate: int) -> float | None:
        """Return the fraction of images classified correctly; None if there is no image."""
        return int(self.correct[candidate].sum()) / self.images if self.images else None

    def content(self) -> Content:
        """Return them as an answer."""
        tables = {name: getattr(self, name).reshape(-1).tolist() for name in (*_TABLES, "loss")}
        if self.loss_changes is not None:
            tables["loss_changes"] = self.loss_changes.reshape(-1).tolist()
        for name in ("loss_squares", "bins", "confusion", "histograms"):
            found = [table for one in self.outcomes if (table := getattr(one, name)) is not None]
            if found:
                tables[name] = np.concatenate([np.ravel(table) for table in found]).tolist()
        return Content(numbers=tables)


def tells_classes(columns: int) -> bool:
    """Tell whether outcomes are told by class where images are counted in so many columns."""
    return 1 < columns <= MOST_CLASSES


def held_out_counts(site: Site) -> list[int]:
    """Return how many images judge here, by class where that may be told, else in total."""
    counts = [int(count) for count in site.held_out().label_counts()]
    return counts if site.configuration.exact_counts_told else [sum(counts)]


def evaluated(site: Site, candidates: Iterable[State], compares_losses: bool = False) -> Scores:
    """Run every candidate over the client's held-out images; its resident model is overwritten."""
    images = site.judging_images()
    model = site.model()
    found = [images.predictions(load_state(model, state)) for state in candidates]
    labels = images.labels.cpu().numpy()
    logits = [predictions.logits.cpu().numpy() for predictions in found]
    scores = Scores.counted(
        labels,
        np.stack([predictions.correct.cpu().numpy() for predictions in found]),
        [float(predictions.loss) for predictions in found],
        len(held_out_counts(site)),
        logits,
    )
    return replace(scores, loss_changes=loss_changes(logits, labels)) if compares_losses else scores


def tell(site: Site, asked: Received) -> Content:
    """Tell the scores of the candidates in a message."""
    request = EvaluationRequest.received(asked, site.model().state_dict())
    return evaluated(site, request, request.compares_losses).content()


question = Question("evaluation", tell)


@dataclass(frozen=True)
class EvaluationRequest(Request[Scores, "Scores | None"]):
    """Ask clients that hold images out what the models w + λ·(w' - w) do on them.

    ``base`` is w, ``target`` w', or None where ``base`` alone is asked about; ``steps`` are the λ,
    in [0, 1], of which the first is compared with the others; ``compares_losses`` image by image in
    their losses, too. A client weighs the held-out images
    that it joined with, by class or in one column: a reply about others is refused.
    """

    base: State
    target: State | None = None
    steps: Sequence[float] = (0.0,)
    compares_losses: bool = False

    asks = question
    of_judges = True

    def __post_init__(self) -> None:
        if not 0 < len(self.steps) <= _MOST_CANDIDATES:
            raise InvalidContent(f"{len(self.steps)} candidates: 1 to {_MOST_CANDIDATES}")
        if not all(0 <= step <= (0 if self.target is None else 1) for step in self.steps):
            raise InvalidContent(f"steps {list(self.steps)[:8]} are not between the states sent")

    def __iter__(self) -> Iterator[State]:
        """Make one candidate's state at a time."""
        target = self.base if self.target is None else self.target
        return (interpolated(self.base, target, step) for step in self.steps)

    def content(self) -> Content:
        states = {"base": self.base}
        if (target := self.target) is not None:
            # Of a new head, or of scales and shifts, the rest is in the message already.
            changed = {n: v for n, v in target.items() if not torch.equal(v, self.base[n])}
            states["target"] = changed or target
        settings: dict[str, Any] = {"steps": [float(step) for step in self.steps]}
        if self.compares_losses:
            settings["compares-losses"] = True
        return Content(states, settings=settings)

    @classmethod
    def received(cls, asked: Received, like: State) -> Self:
        """Read what :meth:`content` wrote (InvalidContent)."""
        steps = asked.setting("steps")
        if not isinstance(steps, list) or not all(isinstance(step, float) for step in steps):
            raise InvalidContent("the message lists no candidates")
        base, target = asked.state("base", like), None
        if "target" in asked.states:
            target = {**base, **asked.part("target", like)}
        return cls(base, target, steps, asked.setting("compares-losses") is True)

    def checked(self, who: Participant, reply: Received) -> Scores:
        scores = Scores.checked(reply, who.held_out, len(self.steps))
        changes = _loss_changes(reply, scores) if self.compares_losses else None
        return replace(scores, outcomes=_outcomes(reply, scores), loss_changes=changes)

    def pooled(self, answers: Mapping[int, Scores]) -> Scores | None:
        return Scores.sum(list(answers.values()))


def _loss_changes(reply: Received, scores: Scores) -> npt.NDArray[np.float64]:
    """Return what n differences of losses, each within LARGEST_LOSS, can add up to."""
    count, images = len(scores.correct), scores.images
    changes = reply.numbers("loss_changes", 2 * count).reshape(2, count)
    total, squares = changes
    slack = 1e-6 * images * LARGEST_LOSS**2
    if (
        changes[:, 0].any()
        or (squares < 0).any()
        or (squares > images * LARGEST_LOSS**2 + slack).any()
        or (total**2 > images * squares + slack).any()
    ):
        raise InvalidContent("its changes of losses and their squares do not fit together")
    return changes


def checked_confusion(reply: Received, scores: Scores) -> Counts:
    """Return the confusion matrices (K, C, C) of a reply whose scores are checked already."""
    count, classes = scores.correct.shape
    told = reply.whole_numbers("confusion", count * classes**2, scores.images)
    confusion = np.array(told, dtype=np.int64).reshape(count, classes, classes)
    if (confusion.sum(axis=2) != scores.total).any() or (
        np.diagonal(confusion, axis1=1, axis2=2) != scores.correct
    ).any():
        raise InvalidContent("its confusion matrix is not that of its images")
    return confusion


def _outcomes(reply: Received, scores: Scores) -> tuple[Outcomes, ...]:
    """Return the outcomes of a reply whose scores are checked already."""
    total, correct, loss = scores.total, scores.correct, scores.loss.tolist()
    count, images, classes = len(loss), scores.images, len(total)
    right = correct.sum(axis=1)
    squares = reply.losses("loss_squares", count)
    # n losses, none below 0: Σl² ≤ (Σl)² ≤ n Σl², up to what single precision makes of Σl.
    with np.errstate(invalid="ignore"):
        sums, of_squares = scores.loss**2, np.array(squares)
        slack = 1e-3 * sums + 1e-6 * images**2
        possible = (of_squares <= sums + slack) & (sums <= images * of_squares + slack)
    if not (possible | ~np.isfinite(sums)).all():
        raise InvalidContent("the sums of losses and of their squares do not fit together")
    bins = np.array(reply.losses("bins", count * 3 * BINS)).reshape(count, 3, BINS)
    told, named, confidence = bins[:, 0], bins[:, 1], bins[:, 2]
    edges = np.arange(BINS + 1) / BINS
    if (
        not np.isfinite(bins).all()
        or (bins[:, :2] != np.floor(bins[:, :2])).any()
        or (told.sum(axis=1) != images).any()
        or (named.sum(axis=1) != right).any()
        or (named > told).any()
        or (confidence > told * edges[1:] * _ROUNDING).any()
        or (confidence * _ROUNDING < told * edges[:-1]).any()
    ):
        raise InvalidContent("its bins of confidence are not those of its images")
    confusion: Counts | list[None] = [None] * count
    histograms: Counts | list[None] = [None] * count
    if tells_classes(classes):
        confusion = checked_confusion(reply, scores)
        counts = reply.whole_numbers("histograms", count * 2 * classes * SCORE_BINS, images)
        histograms = sides = np.array(counts, np.int64).reshape(count, 2, classes, SCORE_BINS)
        if (sides.sum(axis=3) != np.stack([total, images - total])).any():
            raise InvalidContent("its histograms of scores are not those of its images")
    return tuple(
        Outcomes(images, int(right[k]), loss[k], squares[k], bins[k], confusion[k], histograms[k])
        for k in range(count)
    )
