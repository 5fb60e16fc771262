"""Is a part of your own better than the global model's on what you hold out? Judged at the site.

A site makes its own layers, holds both models against each other, keeps its layers with what came
of it, and tells the scores of both; its layers it does not tell.
"""

from collections.abc import Callable

import torch

from foundation.messages.content import Content, Received
from foundation.models import State, load_state
from foundation.models.batch_norm import pooled_statistics, with_statistics
from foundation.models.classifier import LinearHead
from foundation.models.client_store import OwnLayers
from foundation.models.closed_form import shrunk_towards
from foundation.scores import Gain
from foundation.settings.configuration import ConfigurationError

from .batch_norm import measured_inputs
from .class_statistics import own_features
from .evaluation import EvaluationRequest, Scores, evaluated
from .question import Question, Site


def own_batch_norm(site: Site, shared: State) -> State:
    """Return a model with the site's own BatchNorm layers, and the statistics of its images.

    The parameters are those of the last round that the site trained in. The statistics belong to
    the weights that all sites have now, and not to those that it trained.
    """
    own = site.own_batch_norm()
    if not own:
        raise ConfigurationError("this site has no BatchNorm layers: it trained in no round")
    state, model = {**shared, **own}, site.model()
    load_state(model, state)
    statistics = pooled_statistics([measured_inputs(site, model).moments])
    return with_statistics(state, {n: v for n, v in statistics.items() if n in own})


def own_head(site: Site, shared: State) -> State:
    """Return a model with a head fitted to the site's features, held by the one that it has.

    Classes of which the site has no image stand where they stood beside the mean of the others.
    """
    model = site.model()
    load_state(model, shared)
    (features, known), old = own_features(site), LinearHead.of(shared)
    head, _ = shrunk_towards(features, old.rows(known))
    return head.within(old, known).put_into(shared)


_MAKES: dict[str, Callable[[Site, State], State]] = {
    "batch-norm": own_batch_norm,
    "head": own_head,
}


def better(scores: Scores) -> bool:
    """Tell whether the second of two models is better for sure on images, at least one."""
    gained, lost = int(scores.gained[1].sum()), int(scores.lost[1].sum())
    return Gain.of_counts(gained, lost, scores.images).low > 0


def tell(site: Site, asked: Received) -> Content:
    """Make the site's own layers, judge and keep them, and tell the scores."""
    shared = EvaluationRequest.received(asked, site.model().state_dict()).base
    of = site.configuration.personal
    own = _MAKES[of](site, shared)
    scores = evaluated(site, [shared, own])
    layers = {n: value for n, value in own.items() if not torch.equal(value, shared[n])}
    site.folder.keep(shared, OwnLayers(of, layers, better(scores)))
    return scores.content()


question = Question("personal", tell)


class PersonalRequest(EvaluationRequest):
    """Ask the clients that hold images out what a model does on them, and with their own part.

    The two candidates, of equal steps, differ at the site alone.
    """

    asks = question
