"""What are your own BatchNorm layers? Asked once, after the rounds, for who has none of his own."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.models import State
from foundation.models.aggregation import sample_weights
from foundation.settings.configuration import ConfigurationError

from .question import Question, Request, Site


def tell(site: Site, asked: Received) -> Content:
    """Tell the layers that the site's last round left."""
    if not (own := site.own_batch_norm()):
        raise ConfigurationError("this site has no BatchNorm layers: it trained in no round")
    return Content({"layers": own})


question = Question("own_layers", tell)


@dataclass(frozen=True)
class OwnLayersRequest(Request[tuple[int, State], State]):
    """Ask for the entries of these names in a model's state, and pool them to their mean.

    A site weighs the training images that it joined with.
    """

    state: State
    names: tuple[str, ...]

    asks = question

    def checked(self, who: Participant, reply: Received) -> tuple[int, State]:
        layers = reply.state("layers", {name: self.state[name] for name in self.names})
        return who.num_examples, layers

    def pooled(self, answers: Mapping[int, tuple[int, State]]) -> State:
        parts = list(answers.values())
        weights = torch.tensor(sample_weights([images for images, _ in parts])).double()
        mean: State = {}
        for name in self.names if parts else ():
            if (old := self.state[name]).is_floating_point():
                layers = torch.stack([layers[name].double() for _, layers in parts])
                mean[name] = torch.tensordot(weights, layers, dims=1).to(old.dtype)
        return {**self.state, **mean}
