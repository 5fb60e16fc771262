"""Which pseudo images does your local model give? The client inverts it, and keeps its labels.

A client remembers nothing between messages, so it is sent the local model that it trained last.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from foundation import ProgressLog
from foundation.data import Description
from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant, Participants
from foundation.messages.records import InvalidContent, template
from foundation.models import State, load_state
from foundation.models.evaluation import predicted_logits
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from generation import Generation, PixelRange, PseudoData, generate, implausible

from .label_counts import shareable_counts
from .question import Question, Request, Site

KINDS = ("common", "hard")
# Relative. TensorFloat-32 on a client's GPU gives about 1e-3.
_SOFT_LABEL_TOLERANCE = 0.02


def pixel_range(configuration: RunConfiguration, description: Description) -> PixelRange | None:
    """Return the range of real pixels, which the corrected form keeps to, unlike the reference.

    The constants of the normalisation are known to everybody, so this prior costs no data.
    """
    if configuration.generation.form == "reference":
        return None
    return description.normalization.bounds()


def tell(site: Site, asked: Received) -> Content:
    """Invert the local model: the same images as the server would get from it."""
    kind = str(asked.setting("kind"))
    if kind not in KINDS:
        raise ConfigurationError(f"kind = {kind!r}: choose one of {', '.join(KINDS)}")
    client, images, seed = (asked.whole_setting(name) for name in ("client", "images", "seed"))
    configuration = site.configuration
    settings = configuration.generation.of_kind(kind, configuration.competition)
    # The resident model is the training's; both of these are used at the same time.
    resident = site.model()
    layout = resident.state_dict()
    local_model = load_state(copy.deepcopy(resident), asked.state("local", layout)).eval()
    global_model = None
    if settings.competition_weight > 0:
        global_model = load_state(copy.deepcopy(resident), asked.state("global", layout)).eval()
    counts, name = shareable_counts(site), site.name or f"client {client}"
    made = generate(
        lambda _: local_model,
        budgets={client: images},
        label_counts=None if counts is None else {client: counts},
        image_shape=site.description.image_shape,
        settings=settings,
        pixel_range=pixel_range(site.configuration, site.description),
        classes=site.description.classes,
        global_model=global_model,
        seed=seed,
        device=site.device,
        progress=ProgressLog(
            f"inversion of {kind} samples of {name}", "image-iterations", brief=True
        ),
        names={client: name},
    )
    data = made.data
    return Content(
        {"pseudo": {"images": data.images, "labels": data.labels, "logits": data.logits}},
        {"objective": made.objective},
        joined=False,
    )


question = Question("pseudo_images", tell)


@dataclass(frozen=True)
class PseudoImagesRequest(Request[Generation, "Generation | None"]):
    """Ask clients to invert their local models, for samples of one of :data:`KINDS`.

    ``seed`` is the same for all clients: with a client's index, the source of all its randomness.
    ``image_shape`` is (C, H, W). ``local_model`` reads a client's local model, which the server
    kept; ``model`` makes a model of a state, in evaluation mode. ``global_state`` is what hard
    samples are to tell from the local model.
    """

    kind: str
    budgets: Mapping[int, int]
    seed: int
    image_shape: tuple[int, int, int]
    classes: int
    local_model: Callable[[int], State]
    model: Callable[[State], nn.Module]
    global_state: State | None = None

    asks = question

    def clients(self, participants: Participants) -> list[int]:
        return [client for client, images in self.budgets.items() if images]

    def content(self) -> Content:
        states = {} if self.global_state is None else {"global": self.global_state}
        return Content(states, settings={"kind": self.kind, "seed": self.seed})

    def content_for(self, client: int) -> Content:
        return Content(
            {"local": self.local_model(client)},
            settings={"client": client, "images": self.budgets[client]},
        )

    def checked(self, who: Participant, reply: Received) -> Generation:
        images = self.budgets[who.client]
        state = reply.state(
            "pseudo",
            {
                "images": template(torch.float32, images, *self.image_shape),
                "labels": template(torch.int64, images),
                "logits": template(torch.float32, images, self.classes),
            },
        )
        labels = state["labels"]
        if images and not (int(labels.min()) >= 0 and int(labels.max()) < self.classes):
            raise InvalidContent(f"a label lies outside 0..{self.classes - 1}")
        if problem := implausible(state["images"], state["logits"]):
            raise InvalidContent(problem)
        objective = reply.number("objective")
        sources = torch.full((images,), who.client, dtype=torch.int64)
        data = PseudoData(state["images"], labels, sources, state["logits"])
        self._check_soft_labels(who.client, data)
        return Generation(data, objective)

    def _check_soft_labels(self, client: int, data: PseudoData) -> None:
        """Check that soft labels are what the client's model says, up to two machines' arithmetic.

        A client can still send images that mislead; it cannot put words in its model's mouth.
        """
        expected = predicted_logits(self.model(self.local_model(client)), data.images)
        difference = float((data.logits - expected).norm() / expected.norm().clamp_min(1e-12))
        if not difference <= _SOFT_LABEL_TOLERANCE:
            raise InvalidContent(
                f"the soft labels differ by {difference:.0%} from what the client's model says"
            )

    def pooled(self, answers: Mapping[int, Generation]) -> Generation | None:
        parts = list(answers.values())
        if not parts:
            return None
        data = PseudoData.concatenate(part.data for part in parts)
        objective = sum(part.objective * len(part.data) for part in parts) / len(data)
        return Generation(data, objective)
