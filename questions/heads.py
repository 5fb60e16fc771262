"""How good would these heads be on your held-out images? One encoder, run once, and many heads."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent, template
from foundation.models import State, load_state
from foundation.models.classifier import LinearHead

from .evaluation import Scores
from .question import Question, Request, Site

_MOST_HEADS = 1000


def tell(site: Site, asked: Received) -> Content:
    """Tell how many held-out images each head classifies correctly, beside the first one."""
    model, count = site.model(), asked.setting("heads", 0)
    if type(count) is not int or not 0 < count <= _MOST_HEADS:
        raise InvalidContent(f"{count} heads: 1 to {_MOST_HEADS}")
    state = asked.state("arrays", model.state_dict())
    weight, bias = state["head.weight"], state["head.bias"]
    shapes = {
        "weight": template(weight.dtype, count, *weight.shape),
        "bias": template(bias.dtype, count, *bias.shape),
    }
    heads, images = asked.state("grid", shapes), site.judging_images()
    # The encoder runs once: its features are kept for the models that differ in their heads alone.
    found = [
        images.predictions(load_state(model, LinearHead(row, shift).put_into(state)))
        for row, shift in zip(heads["weight"], heads["bias"], strict=True)
    ]
    correct = torch.stack([one.correct.cpu() for one in found]).numpy()
    losses = [float(one.loss) for one in found]
    return Scores.counted(images.labels.cpu().numpy(), correct, losses, columns=1).content()


question = Question("heads", tell)


@dataclass(frozen=True)
class HeadsRequest(Request[Scores, "Scores | None"]):
    """Ask clients that hold images out what each of many heads of the model does on them.

    ``weight`` is (K, C, d), ``bias`` (K, C); the first head is the one that the others are compared
    with. The scores are in one column, whatever the class.
    """

    state: State
    weight: Tensor
    bias: Tensor

    asks = question
    of_judges = True

    def content(self) -> Content:
        grid = {
            "weight": self.weight.to(self.state["head.weight"]),
            "bias": self.bias.to(self.state["head.bias"]),
        }
        return Content({"arrays": self.state, "grid": grid}, settings={"heads": len(self.bias)})

    def checked(self, who: Participant, reply: Received) -> Scores:
        return Scores.checked(reply, [sum(who.held_out)], len(self.bias))

    def pooled(self, answers: Mapping[int, Scores]) -> Scores | None:
        return Scores.sum(list(answers.values()))
