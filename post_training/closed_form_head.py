"""A head in closed form, from one message of every client: no rounds, and at any division the same.

The clients tell sums of their images' features. Heads of several kinds and strengths follow from
them, and the clients score the whole grid in one more message on the images that they hold out. The
head that the sums themselves find best stands first, and another takes its place only where it is
better for sure: to choose freely by few images is a lottery (docs/lab/2026-11-one-message.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from foundation.errors import log
from foundation.events.family import Calibrated
from foundation.models import State
from foundation.models.classifier import LinearHead, head_name
from foundation.models.closed_form import (
    SOLVERS,
    FeatureSums,
    cross_validated,
    likely_temperature,
    temperatures,
)
from foundation.scores import paired_standard_error
from foundation.settings.calibration import HeadSettings
from foundation.wording import listed
from questions.class_statistics import ClassStatistics, StatisticsRequest
from questions.evaluation import Scores
from questions.heads import HeadsRequest

from .method import LARGEST_ANSWER, Method, NoAnswer, Settings
from .trained import Trained

#: Strengths of the grid, beside the one that cross-validation finds.
_FACTORS = (1.0, 1 / 3, 3.0, 0.1, 10.0, 1 / 30, 30.0)
#: Standard errors by which another head has to be better; figures in
#: docs/lab/2026-11-one-message.md.
_CAUTION = 2.0


@dataclass(frozen=True)
class Candidate:
    """A head of the grid: ``form`` is one of ``head.of``, ``strength`` the r of closed_form.py."""

    form: str
    strength: float
    head: LinearHead


def run(trained: Trained, settings: Settings) -> None:
    """Ask, solve, have the grid judged, and offer the head."""
    if trained.done("head"):
        return
    with trained.timed("head"):
        new = with_closed_form_head(trained, settings)
    # In closed form and on features that stay: it was better than a head that was trained or
    # averaged wherever it was tried.
    trained.offer("head", new, needs_proof=False, whole=True)
    trained.commit("head")


def with_closed_form_head(trained: Trained, settings: Settings) -> State:
    """Ask, solve, have the grid judged, and return the global model with the head."""
    state = trained.global_state
    told = trained.ask(StatisticsRequest(state, means=True, moment=True, single=True))
    if told is None or told.feature_sums is None:
        raise NoAnswer("a head in closed form: no client tells the features of its classes")
    return _fitted(trained, told, settings.section(HeadSettings))


def _fitted(trained: Trained, told: ClassStatistics, wanted: HeadSettings) -> State:
    state = trained.global_state
    assert told.feature_sums is not None and told.feature_counts is not None
    assert told.moment is not None
    known = told.feature_counts > 0
    if int(known.sum()) < 2:
        raise NoAnswer(
            "a head in closed form needs features of two classes or more. Clients tell those of "
            "classes of which they have class-statistics-minimum images"
        )
    if not known.all():
        missing = [str(row) for row in (~known).nonzero().flatten().tolist()]
        log.warning(
            "nobody tells features of %s: their rows of the head stay as they are",
            f"class {missing[0]}" if len(missing) == 1 else f"classes {listed(missing)}",
        )
    sums = FeatureSums(told.moment, told.feature_sums[known], told.feature_counts[known])
    name = head_name(trained.model(state))
    old = LinearHead.of(state, name)
    grid = grid_of(sums, wanted)
    first = grid[0].head
    tried = temperatures(sums.spread(first))
    asked = [*(c.head for c in grid), *(first.scaled(1 / t) for t in tried)]
    heads = [head.within(old, known) for head in asked]
    weight, bias = torch.stack([h.weight for h in heads]), torch.stack([h.bias for h in heads])
    scores = trained.ask(HeadsRequest(state, weight, bias))
    place = better_than_first(scores, len(grid)) if scores is not None else 0
    temperature = 1.0
    if scores is not None:
        losses = scores.loss[len(grid) :].tolist()
        temperature = likely_temperature(dict(zip(tried, losses, strict=True)))
    else:
        log.warning("nobody holds images out: the head is not judged, and surer than it should be")
    chosen = grid[place]
    new = chosen.head.scaled(1 / temperature).within(old, known)
    trained.record(
        Calibrated(
            "head",
            "sums",
            clients=len(told.clients),
            images=int(sums.images),
            classes=int(known.sum()),
            temperature=temperature,
            form=chosen.form,
            strength=chosen.strength,
            heads=len(grid),
            held_out=0 if scores is None else scores.images,
        )
    )
    return new.put_into(state, name)


def grid_of(sums: FeatureSums, wanted: HeadSettings) -> list[Candidate]:
    """Return the heads of the wanted forms, all about as sure of themselves, the best first."""
    try:
        strength = cross_validated(sums)
    except ValueError as error:
        raise NoAnswer(f"a head in closed form: {error}") from error
    found = list(_candidates(sums, strength, wanted))
    size = sums.spread(found[0].head)
    return [
        Candidate(
            c.form, c.strength, c.head.scaled(size / own if (own := sums.spread(c.head)) else 1.0)
        )
        for c in found
    ]


def _candidates(sums: FeatureSums, strength: float, wanted: HeadSettings) -> Iterator[Candidate]:
    for form, solved in SOLVERS.items():
        if wanted.of in ("auto", form):
            for factor in (0.0,) if form == "nearest-mean" else _FACTORS:
                r = factor * strength
                yield Candidate(form, r, solved(sums, r, wanted.balanced))


def better_than_first(scores: Scores, heads: int) -> int:
    """Return which of the first heads is better than the first one for sure, by most; or 0."""
    gained, lost = scores.gained[:heads].sum(1), scores.lost[:heads].sum(1)
    errors = paired_standard_error(gained, lost, scores.images)
    bounds = (gained - lost) / scores.images - _CAUTION * errors
    return int(bounds.argmax()) if bounds.max() > 0 else 0


def refuse(model: nn.Module, settings: Settings) -> None:
    """Refuse a model without a linear head, kept counts, or sums that are too large to send."""
    head = model.get_submodule(head_name(model))
    assert isinstance(head, nn.Linear)
    if not settings.exact_counts_told:
        raise ValueError(
            "a head in closed form shows how many images of each class a client has: it needs "
            "label-counts=uploaded and generation.place=server. Choose another method, such as "
            "calibration with calibration.from=pseudo"
        )
    size = 2 * head.in_features * (head.in_features + 1)
    if size > LARGEST_ANSWER:
        raise ValueError(
            f"a head in closed form has each client send {size // 10**6} MB, half of "
            f"{head.in_features} x {head.in_features} numbers; at most "
            f"{LARGEST_ANSWER // 10**6} MB are allowed. "
            "Choose a model with fewer features"
        )


method = Method("head", run, suits=refuse, asks_only=True)
