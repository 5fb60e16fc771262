"""How many images of each class have you? As far as that may be known outside of the client.

``label-counts`` says it: the counts (``uploaded``), counts with noise (``noised``), or nothing
(``uniform``). The server asks for them only if it generates; a client that generates draws its
labels from the same counts, since the images it sends show what they were drawn from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant, Participants
from foundation.messages.records import InvalidContent
from foundation.settings.configuration import ConfigurationError

from .question import Question, Request, Site

_MOST_SAMPLES = 10**10
_TOLD = "label-counts"


def noised_counts(counts: Sequence[int], scale: float, random: np.random.Generator) -> list[int]:
    """Add Laplace noise to label counts (Dwork et al. 2006, "Calibrating Noise to Sensitivity").

    Adding or removing one image changes one count by 1, so the counts are ε-differentially private
    with ε = 1/scale (2/scale for exchanging one image for another), ``scale`` being b of the
    distribution, in images, above 0. Rounding and clipping come after the noise and cost nothing.
    ``random`` must not be derivable from anything the server knows, such as the run's seed.
    Returned is a number of 0 or more for each class, not all 0: all 1 if the noise left none.
    """
    noise = random.laplace(0.0, scale, len(counts))
    noised = [max(0, round(count + extra)) for count, extra in zip(counts, noise, strict=True)]
    return noised if any(noised) else [1] * len(noised)


def shareable_counts(site: Site) -> list[int] | None:
    """Return what may leave the client of its label counts; None for nothing.

    Asked again in the same run, a client repeats what it told: the mean of many draws of noise
    would be the counts themselves.
    """
    configuration = site.configuration
    if configuration.label_counts == "uniform":
        return None
    if _TOLD not in site.memory:
        counts = [int(count) for count in site.data().label_counts()]
        if configuration.label_counts == "noised":
            # Entropy of the operating system: the noise must stay unknown to the server.
            random = np.random.default_rng()
            counts = noised_counts(counts, configuration.label_counts_noise, random)
        site.memory[_TOLD] = counts
    return [int(count) for count in site.memory[_TOLD]]


def tell(site: Site, asked: Received) -> Content:
    """Tell how many training images of each class there are. Sent on request only."""
    counts = shareable_counts(site) if site.configuration.label_counts_told else None
    if counts is None:
        raise ConfigurationError("this run's configuration says that label counts are not sent")
    return Content(numbers={"label-counts": counts})


question = Question("label_counts", tell)


@dataclass(frozen=True)
class LabelCountsRequest(Request[list[int], Mapping[int, list[int]]]):
    """Ask some clients for (classes,) counts; noise may make their sum another than n_i."""

    asked: Sequence[int]
    classes: int
    noised: bool = False

    asks = question

    def clients(self, participants: Participants) -> list[int]:
        return list(self.asked)

    def checked(self, who: Participant, reply: Received) -> list[int]:
        counts = reply.whole_numbers("label-counts", self.classes, _MOST_SAMPLES)
        if sum(counts) == 0 or not (self.noised or sum(counts) == who.num_examples):
            raise InvalidContent(
                f"the label counts sum to {sum(counts)}, but the client joined with "
                f"{who.num_examples}"
            )
        return counts

    def pooled(self, answers: Mapping[int, list[int]]) -> Mapping[int, list[int]]:
        return answers
