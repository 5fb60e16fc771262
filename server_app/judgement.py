"""Whether a stage's result is taken: the clients judge it on images that nothing was trained on.

Candidates lie between the model before a stage and the stage's result: w(λ) = w + λ·(w' - w). Every
client says, for each of them, how many of its held-out images it classifies correctly, and how
often it differs from λ = 0 in either direction. Gains are compared in pairs, image by image: what
both models get right or wrong says nothing about their difference (McNemar 1947).

Pure functions of counts; who asks the clients, and when, is in ``server_app.trained``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: λ of the candidates, in the order in which the clients are asked; λ = 0 is the model before.
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Score:
    """What one client says of one candidate, by class, or in all where labels are not to be known.

    Parameters
    ----------
    correct : tuple of int
        Held-out images classified correctly.
    wins, losses : tuple of int
        Images on which this candidate is right and λ = 0 is wrong, and the other way round.
    """

    correct: tuple[int, ...]
    wins: tuple[int, ...]
    losses: tuple[int, ...]


@dataclass(frozen=True)
class Tally:
    """One candidate's score over all clients.

    Parameters
    ----------
    correct, wins, losses : int
        As in :class:`Score`, summed over clients and classes.
    images : int
        Held-out images of the clients that answered.
    """

    correct: int
    wins: int
    losses: int
    images: int

    @property
    def accuracy(self) -> float:
        """Fraction of the held-out images classified correctly, 0 to 1."""
        return self.correct / self.images

    @property
    def gain(self) -> float:
        """Accuracy above that of λ = 0."""
        return (self.wins - self.losses) / self.images

    @property
    def standard_error(self) -> float:
        """Of the gain; see :func:`paired_standard_error`."""
        return float(paired_standard_error(self.wins, self.losses, self.images))


def paired_standard_error(wins: Any, losses: Any, images: Any) -> Any:
    """Return the standard error of a difference of two accuracies on the same images.

    The difference is the mean over images of d ∈ {-1, 0, 1}, whose variance is
    (w + l)/n - ((w - l)/n)².
    Half an image is added to wins and to losses (as Agresti and Min 2005 do): without it a single
    image judged differently would exceed its own standard error, and none would mean certainty.

    The clients are all the clients there are, and each draws from its own images, so that they are
    strata and not clusters drawn at random. The variance within strata is at most that of the
    pool, which is what is returned: with a handful of images a client's own variance says little.

    Parameters
    ----------
    wins, losses, images : int or array
        Images that only the candidate, and only λ = 0, classifies correctly; images in all.

    Returns
    -------
    float or array
        0 to 1, above 0.
    """
    discordant = wins + losses + 1.0
    return (discordant - (wins - losses) ** 2 / (images + 1.0)) ** 0.5 / images


def tally(
    scores: Mapping[int, Sequence[Score]], held_out: Mapping[int, Sequence[int]]
) -> list[Tally]:
    """Add up the clients' scores, each bounded by the images that the client is known to hold out.

    A client that lies about its score can move the sums by its own images of a class and no more,
    and what it says of two candidates is brought to agree: wins minus losses is the difference of
    what both get right.

    Parameters
    ----------
    scores : Mapping[int, Sequence[Score]]
        By client, one for each candidate, λ = 0 first; the order of the clients does not matter.
    held_out : Mapping[int, Sequence[int]]
        (classes,) held-out images of every client, as it said before it saw any model; a single
        number where labels are not to be known. A client that is missing here counts nothing.

    Returns
    -------
    list of Tally
        One for each candidate; empty where no client holds images out.
    """
    judges = [client for client in sorted(scores) if sum(held_out.get(client, ())) > 0]
    images = sum(sum(held_out[client]) for client in judges)
    candidates = len(scores[judges[0]]) if judges else 0
    tallies = []
    for candidate in range(candidates):
        correct = wins = losses = 0
        for client in judges:
            before, after = scores[client][0], scores[client][candidate]
            for index, most in enumerate(held_out[client]):
                was = _within(before.correct[index], 0, most)
                now = _within(after.correct[index], 0, most)
                won = _within(after.wins[index], max(0, now - was), min(now, most - was))
                correct += now
                wins += won
                losses += won - (now - was)
        tallies.append(Tally(correct, wins, losses, images))
    return tallies


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


@dataclass(frozen=True)
class Verdict:
    """What the clients' judgement of one stage came to.

    Parameters
    ----------
    before : str
        Name of the stage whose model was kept so far: ``"federated"``, ``"distilled"``, ….
    stage : str
        Name of the stage that is judged.
    chosen : int
        Index of the candidate that is kept; 0: the model before.
    tallies : tuple of Tally
        One for each candidate; empty where nobody judged.
    clients : int
        Clients that judged.
    held_out : int
        Images that all clients of the federation hold out, also those that did not answer.
    """

    before: str
    stage: str
    chosen: int
    tallies: tuple[Tally, ...]
    clients: int
    held_out: int

    @property
    def step(self) -> float:
        """λ of what is kept, from the model before (0) to the stage's result (1)."""
        return STEPS[self.chosen]

    @property
    def best(self) -> int:
        """Index of the candidate other than λ = 0 that did best; the smallest of equals."""
        return best_step(self.tallies) if self.tallies else len(STEPS) - 1

    @property
    def sentence(self) -> str:
        """The verdict in words, for a person who has to trust it."""
        taken = f"kept: {self.stage if self.chosen else self.before}"
        if 0 < self.step < 1:
            taken += f" (λ = {self.step:g}, between {self.before} and {self.stage})"
        if not self.tallies:
            if self.held_out:
                return f"{taken}; no client that holds images out answered about {self.stage}"
            return f"{taken}, not judged: no client holds images out"
        best = self.tallies[self.best]
        return (
            f"{taken}; {self.stage} gained {100 * best.gain:+.1f} ± "
            f"{100 * best.standard_error:.1f} points on {best.images} held-out images of "
            f"{self.clients} client{'' if self.clients == 1 else 's'}"
        )


def best_step(tallies: Sequence[Tally]) -> int:
    """Return the index of the candidate other than λ = 0 that gained most; of equals the first."""
    return max(range(1, len(tallies)), key=lambda index: (tallies[index].gain, -index))
