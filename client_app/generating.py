"""Generation on the client: it inverts its own local model, and its label counts stay with it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from foundation import ProgressLog
from foundation.models import State, load_state
from generation import Generation, generate
from questions.pixel_range import pixel_range

from .site import Site

KINDS = ("common", "hard")


@dataclass(frozen=True)
class Request:
    """What the server asks a client to generate.

    Parameters
    ----------
    client : int
        The client's index: with ``seed``, the source of all randomness.
    images : int
        The budget; the server computes it from sample counts, which it knows from the weights.
    kind : str
        ``"common"`` or ``"hard"`` samples.
    seed : int
        Seed of the batch, the same for all clients.
    """

    client: int
    images: int
    kind: str
    seed: int

    def __post_init__(self) -> None:
        """Refuse a kind that there is not."""
        if self.kind not in KINDS:
            raise ValueError(f"kind = {self.kind!r}: choose one of {', '.join(KINDS)}")


def needs_global_model(site: Site, request: Request) -> bool:
    """Tell whether the request compares the local model with the global one."""
    return site.configuration.inversion(request.kind).competition_weight > 0


def generate_at(
    site: Site,
    request: Request,
    label_counts: Sequence[int] | None,
    local_state: State,
    global_state: State | None,
) -> Generation:
    """Invert the client's local model: the same images as the server would get from it.

    Parameters
    ----------
    site : Site
        The client.
    request : Request
        How many images of which kind.
    label_counts : sequence of int, optional
        What labels are drawn from; evenly if not given.
    local_state : State
        The client's model of its last round, which the server kept: clients remember nothing.
    global_state : State, optional
        The current global model; needed for hard samples.
    """
    # The resident model is the training's; both of these are used at the same time.
    local_model = load_state(copy.deepcopy(site.model()), local_state).eval()
    global_model = None
    if global_state is not None:
        global_model = load_state(copy.deepcopy(site.model()), global_state).eval()
    # The function serves whole federations; here, all other clients have no budget.
    others = [0] * request.client
    return generate(
        lambda _: local_model,
        budgets=[*others, request.images],
        label_counts=None if label_counts is None else [label_counts] * (request.client + 1),
        image_shape=site.description.image_shape,
        settings=site.configuration.inversion(request.kind),
        pixel_range=pixel_range(site.configuration, site.description),
        classes=site.description.classes,
        global_model=global_model,
        seed=request.seed,
        device=site.device,
        progress=ProgressLog(
            f"inversion of {request.kind} samples of client {request.client}",
            "image-iterations",
            brief=True,
        ),
    )
