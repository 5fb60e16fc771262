"""How much better is this model than one that your site trains alone? Told in counts.

The site trains its own model within its answer, as ``strategy=local`` would: from the same weights,
on the same images, with the same settings, for as many rounds, in which nobody else's model comes.
Then it counts what both do on the images that it holds out, and forgets its own model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.models import Classifier, State, load_state
from foundation.models.classifier import LinearHead
from foundation.models.closed_form import (
    SOLVERS,
    cross_validated,
    likely_temperature,
    temperatures,
)
from foundation.settings.calibration import HeadSettings

from .class_statistics import own_features
from .evaluation import Counts, Scores, checked_confusion, held_out_counts, tells_classes
from .question import Question, Request, Site

#: The first and the second candidate of the counts.
OWN, JOINED = 0, 1
# The logit of a class of which a site has no image: it is never the answer.
_NEVER = -1e6


@dataclass(frozen=True)
class Comparison:
    """What a site's own model and the federation's do on its held-out images, as OWN and JOINED.

    Of the losses nothing is told. ``confusion`` are two matrices (C, C); None where clients do not
    answer by class.
    """

    scores: Scores
    confusion: tuple[Counts, ...] | None = None

    @property
    def gained(self) -> int:
        """Images that only the federation's model classifies correctly."""
        return int(self.scores.gained[JOINED].sum())

    @property
    def lost(self) -> int:
        """Images that only the own model classifies correctly."""
        return int(self.scores.lost[JOINED].sum())


def tell(site: Site, asked: Received) -> Content:
    """Train, compare, and tell the counts."""
    model, images = site.model(), site.judging_images()
    layout = model.state_dict()
    rounds, client = (asked.whole_setting(name) for name in ("rounds", "client"))
    joined = images.predictions(load_state(model, asked.state("joined", layout)))
    load_state(model, asked.state("initial", layout))
    if rounds == 0 or site.configuration.initial_head == "closed-form":
        _take_own_head(site)
    for server_round in range(1, rounds + 1):
        site.train_alone(server_round, client)
    both = (images.predictions(model), joined)
    correct = np.stack([found.correct.cpu().numpy() for found in both])
    logits = [found.logits.cpu().numpy() for found in both]
    labels, columns = images.labels.cpu().numpy(), len(held_out_counts(site))
    scores = Scores.counted(labels, correct, (), columns, logits)
    numbers = {name: table.reshape(-1).tolist() for name, table in scores.tables.items()}
    told = [one.confusion for one in scores.outcomes if one.confusion is not None]
    if told:
        numbers["confusion"] = np.stack(told).reshape(-1).tolist()
    return Content(numbers=numbers)


def _take_own_head(site: Site) -> None:
    """Give the resident model a head in closed form of the site's own images, as ``head`` finds it.

    Of the forms that ``head.of`` permits it is the first, at the strength that the sums find best,
    and as sure of itself as the held-out images permit, which changes no answer.
    """
    model, wanted = site.model(), site.configuration.section(HeadSettings)
    sums, known = own_features(site)
    head = LinearHead(torch.zeros_like(sums.sums), torch.zeros(len(sums.sums)).double())
    if len(sums.sums) > 1:
        solve = SOLVERS["discriminant" if wanted.of == "auto" else wanted.of]
        head = solve(sums, cross_validated(sums), wanted.balanced)
    _put_in(model, head, known)
    images = site.judging_images()
    rows = known.to(images.labels.device)[images.labels]
    logits, labels = images.predictions(model).logits[rows].double(), images.labels[rows]
    losses = {
        t: float(F.cross_entropy(logits / t, labels, reduction="sum"))
        for t in temperatures(sums.spread(head))
    }
    _put_in(model, head.scaled(1 / likely_temperature(losses)), known)


def _put_in(model: Classifier, head: LinearHead, known: Tensor) -> None:
    """Give a model a head of the known classes, (C,) bool, that never answers another."""
    weight = torch.zeros(len(known), head.weight.shape[1]).double()
    bias = torch.full((len(known),), _NEVER).double()
    weight[known], bias[known] = head.weight, head.bias
    load_state(model, LinearHead(weight, bias).put_into(model.state_dict()))


question = Question("own_model", tell)


@dataclass(frozen=True)
class OwnModelRequest(Request[Comparison, "Comparison | None"]):
    """Ask clients that hold images out how a model does beside one that each trains alone.

    ``initial`` is the state that both began with, ``rounds`` how many the federation took from
    there; 0 has the sites find a head in closed form instead, each on its own features.
    """

    initial: State
    joined: State
    rounds: int

    asks = question
    of_judges = True

    def content(self) -> Content:
        states = {"initial": self.initial, "joined": self.joined}
        return Content(states, settings={"rounds": self.rounds})

    def content_for(self, client: int) -> Content:
        return Content(settings={"client": client})

    def checked(self, who: Participant, reply: Received) -> Comparison:
        scores = Scores.checked(reply, who.held_out, 2, losses=False)
        if not tells_classes(len(scores.total)):
            return Comparison(scores)
        return Comparison(scores, tuple(checked_confusion(reply, scores)))

    def pooled(self, answers: Mapping[int, Comparison]) -> Comparison | None:
        scores = Scores.sum([answer.scores for answer in answers.values()])
        return None if scores is None else Comparison(scores)
