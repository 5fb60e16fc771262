"""Whether a stage's result is taken: the clients judge it on images that nothing was trained on.

Candidates lie between the model before a stage and the stage's result: w(λ) = w + λ·(w' - w). Every
client says how many of its held-out images each of them classifies correctly, and how often it
differs from λ = 0 in either direction. Gains are compared in pairs, image by image: what both
models get right or wrong says nothing about their difference (McNemar 1947). By which figure is a
setting: accuracy, balanced accuracy (class by class) or log loss (differences of losses).

Pure functions of counts. What a client may say is bounded by :mod:`questions.evaluation`: it weighs
the images that it joined with, class by class, and an answer about others is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from foundation import counted
from foundation.scores import METRICS, Gain, balanced_gain, mean_gain
from questions.evaluation import Scores

#: λ of the candidates, in the order in which the clients are asked; λ = 0 is the model before.
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: The same for a result that has nothing between it and the model before.
WHOLE = (0.0, 1.0)
#: Standard errors by which a gain has to exceed 0. Chosen by simulation with known test accuracies:
#: ``python -m benchmarks.judgement``, figures in ``docs/lab/2026-11-judgement.md``.
CAUTION = 0.5


@dataclass(frozen=True)
class Tally(Gain):
    """What one candidate gains over λ = 0 on the ``images``, 1 or more, of all who answered.

    ``correct`` are those that it classifies correctly, whatever the gain is of.
    """

    correct: int
    images: int

    @property
    def accuracy(self) -> float:
        """Fraction of the held-out images classified correctly, 0 to 1."""
        return self.correct / self.images

    @property
    def gain(self) -> float:
        """The gain in the metric that the clients judge by."""
        return self.value

    @property
    def bound(self) -> float:
        """The gain that is counted on: :data:`CAUTION` standard errors below the one measured."""
        return self.gain - CAUTION * self.standard_error


def tallies(scores: Scores | None, metric: str = "accuracy") -> tuple[Tally, ...]:
    """Return a tally for each candidate of the clients' summed scores; none without an image.

    ``metric`` is one of :data:`foundation.scores.METRICS`.
    """
    if scores is None or not scores.images:
        return ()
    found = []
    for index, correct in enumerate(scores.correct):
        gain = _gain(scores, index, metric)
        right = int(correct.sum())
        found.append(Tally(gain.value, gain.standard_error, right, scores.images))
    return tuple(found)


def _gain(scores: Scores, index: int, metric: str) -> Gain:
    if metric == "log-loss":
        assert scores.loss_changes is not None, "the clients were asked for them"
        total, squares = scores.loss_changes[:, index].tolist()
        return mean_gain(total, squares, scores.images)
    gained, lost = scores.gained[index], scores.lost[index]
    if metric == "balanced-accuracy":
        return balanced_gain(gained, lost, scores.total)
    return Gain.of_counts(int(gained.sum()), int(lost.sum()), scores.images)


_UNDECIDED = ": undecided, less than these images can tell apart"
_NEEDS_NO_PROOF = "; it is kept all the same, as a correction of this kind rarely harms"


@dataclass(frozen=True)
class Verdict:
    """What the clients' judgement of one stage came to: which of the candidates is kept.

    That is the one whose gain minus :data:`CAUTION` standard errors is largest, if that is above 0;
    otherwise λ = 0. A step that needs no proof is kept as it is, λ = 1, unless it lost more than
    its standard error: few images would refuse it by chance more often than it harms. Where no
    client holds images out, nothing can be judged, and the stage's result is kept as if there were
    no judges; where clients do but none answers, λ = 0.

    There is a candidate for each of ``steps``, and none where nobody judged. ``before`` names the
    stage whose model was kept so far. ``held_out`` counts the images of all ``clients``, also of
    those that did not answer.
    """

    candidates: Sequence[Tally]
    before: str
    stage: str
    clients: int
    held_out: int
    needs_proof: bool = True
    steps: tuple[float, ...] = STEPS
    metric: str = "accuracy"

    @cached_property
    def chosen(self) -> int:
        """The index of the candidate that is kept, 0 for the model before."""
        last, found = len(self.steps) - 1, self.candidates
        if not found:
            return 0 if self.held_out else last
        if not self.needs_proof and found[-1].gain >= -found[-1].standard_error:
            return last
        best = max(range(1, len(found)), key=lambda index: (found[index].bound, -index))
        return best if found[best].bound > 0 else 0

    @property
    def step(self) -> float:
        """λ of what is kept, from the model before (0) to the stage's result (1)."""
        return self.steps[self.chosen]

    @property
    def reported(self) -> Tally | None:
        """What is kept, or else the stage's own result; None where nobody judged."""
        return self.candidates[self.chosen or -1] if self.candidates else None

    @property
    def images(self) -> int:
        """Held-out images that it rests on."""
        return self.candidates[0].images if self.candidates else 0

    @property
    def sentence(self) -> str:
        """The verdict in words, for a person who has to trust it."""
        kept = f"kept: {self.stage if self.chosen else self.before}"
        if 0 < self.step < 1:
            kept += f" at λ = {self.step:g} (0: {self.before}, 1: {self.stage})"
        if self.reported is None:
            if self.held_out:
                return f"{kept}; no client that holds images out answered about {self.stage}"
            return f"{kept}, not judged: no client holds images out"
        return (
            f"{kept}; {self.stage} "
            f"{METRICS[self.metric].said(self.reported.gain, self.reported.standard_error)} on "
            f"{self.images} held-out images of {counted(self.clients, 'client')}"
            + (_UNDECIDED if self.reported.undecided else "")
            + (_NEEDS_NO_PROOF if self.chosen and self.reported.bound <= 0 else "")
        )
