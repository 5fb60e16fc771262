"""How good would these heads be on your held-out images? One encoder, run once, and many heads.

Importable without Flower: post-training methods ask it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foundation.messages.content import Content, Received
from foundation.messages.records import InvalidContent, template
from foundation.models import State, load_state
from foundation.models.head import with_head
from foundation.scores import paired_standard_error

from .question import Question, Request, Site

if TYPE_CHECKING:
    from foundation.messages.participants import Participant, Participants

_MOST_HEADS = 1000
_TABLES = ("correct", "gained", "lost")


@dataclass(frozen=True)
class HeadScores:
    """What K heads do on n ``images`` that are held out, at least one, whatever their class.

    All (K,): ``correct``, the images that a head classifies correctly; ``gained``, those that it
    has right and the first head wrong, and ``lost``, the other way round; ``loss``, the sum of the
    cross-entropies, infinite where logits are not finite.
    """

    images: int
    correct: npt.NDArray[np.int64]
    gained: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]

    def best(self, heads: Sequence[int], caution: float) -> int:
        """Return the head of the largest gain, less ``caution`` standard errors; or the first."""
        gains = (self.gained - self.lost) / self.images
        bounds = gains - caution * paired_standard_error(self.gained, self.lost, self.images)
        best = max(heads, key=lambda index: float(bounds[index]))
        return best if bounds[best] > 0 else 0


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
    correct, loss = [], []
    # The encoder runs once: its features are kept for the models that differ in their heads alone.
    for row, shift in zip(heads["weight"], heads["bias"], strict=True):
        found = images.predictions(load_state(model, with_head(state, "head", row, shift)))
        correct.append(found.correct.cpu())
        loss.append(float(found.loss))
    right = torch.stack(correct).numpy()
    tables = (right, right & ~right[:1], ~right & right[:1])
    numbers = {n: t.sum(axis=1).tolist() for n, t in zip(_TABLES, tables, strict=True)}
    return Content(numbers={"images": len(images), "loss": loss, **numbers})


question = Question("heads", tell)


@dataclass(frozen=True)
class HeadsRequest(Request[HeadScores, "HeadScores | None"]):
    """Ask clients that hold images out what each of many heads of the model does on them.

    ``weight`` is (K, C, d), ``bias`` (K, C); the first head is the one that the others are compared
    with.
    """

    state: State
    weight: Tensor
    bias: Tensor

    asks = question

    def clients(self, participants: Participants) -> list[int]:
        return participants.judges

    def content(self) -> Content:
        grid = {
            "weight": self.weight.to(self.state["head.weight"]),
            "bias": self.bias.to(self.state["head.bias"]),
        }
        return Content({"arrays": self.state, "grid": grid}, settings={"heads": len(self.bias)})

    def checked(self, who: Participant, reply: Received) -> HeadScores:
        images, count = sum(who.held_out), len(self.bias)
        if (told := reply.whole_number("images", 0, 2**62)) != images:
            raise InvalidContent(
                f"it judges by {told} images, and not by the {images} that it joined with"
            )
        correct, gained, lost = (
            np.array(reply.whole_numbers(name, count, images), dtype=np.int64) for name in _TABLES
        )
        if (
            (correct - correct[0] != gained - lost).any()
            or (lost > correct[0]).any()
            or (gained > images - correct[0]).any()
        ):
            raise InvalidContent("its gains and losses are not differences of two heads")
        return HeadScores(images, correct, gained, lost, np.array(reply.losses("loss", count)))

    def pooled(self, answers: Mapping[int, HeadScores]) -> HeadScores | None:
        parts = list(answers.values())
        if not parts:
            return None
        tables = (np.sum([getattr(part, n) for part in parts], axis=0) for n in (*_TABLES, "loss"))
        return HeadScores(sum(part.images for part in parts), *tables)
