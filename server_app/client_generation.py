"""Have the clients invert their own local models: requests, replies, and what is wrong with them.

A client remembers nothing between messages, so it is sent the local model that it trained last; its
label counts stay with it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from foundation import counted
from foundation.messages.gather import gather
from foundation.messages.reasons import grouped
from foundation.messages.records import packed
from foundation.models import size_in_bytes
from generation import PseudoData
from post_training import PseudoRequest
from strategies import TooFewReplies

from .federation import Federation
from .replies import PseudoReply, check_soft_labels, checked_pseudo_data

log = logging.getLogger("flwr.fedf2dg")


@dataclass(frozen=True)
class Generated:
    """A batch of pseudo images, and what it took.

    Parameters
    ----------
    data : PseudoData
        The images.
    objective : float
        Mean of the clients' final objectives, weighted with their images.
    failures : dict of int to str
        Why there are no images of a client that had a budget.
    bytes_down, bytes_up : int
        What went to the clients, and what they sent.
    """

    data: PseudoData
    objective: float
    failures: dict[int, str] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0


def ask_for_images(federation: Federation, request: PseudoRequest) -> Generated:
    """Have the clients invert their models; one that fails has no images in this batch.

    Raises
    ------
    TooFewReplies
        If no client sent valid images; the message lists why.
    """
    participants = federation.participants
    participants.refresh(federation.grid)
    competes = request.inversion.competition_weight > 0
    global_record = packed(federation.state.global_state) if competes else None
    model_bytes = size_in_bytes(federation.state.global_state.values())
    asked = [client for client, images in request.budgets.items() if images]
    addresses = participants.addresses(asked)
    connected = sum(node is not None for node in addresses.values())
    log.info("asking %s for %s samples", counted(connected, "client"), request.kind)
    gathered = gather(
        federation.grid,
        addresses,
        "train.generate",
        lambda client: _content(federation, client, request, global_record),
        lambda client, content: _checked_images(federation, client, request, content),
        federation.configuration.round_timeout,
        federation.progress(f"inversion of {request.kind} samples on the clients", "clients"),
    )
    parts, failures = list(gathered.valid.values()), gathered.failures
    federation.stop_if_hopeless(failures.values())
    if not parts:
        raise TooFewReplies(
            f"no client generated valid {request.kind} samples. {grouped(failures)}"
        )
    data = PseudoData.concatenate(part.data for part in parts)
    down = connected * model_bytes * (2 if competes else 1)
    up = sum(part.bytes_up for part in parts)
    federation.ledger.note_traffic("model", down=down)
    federation.ledger.note_traffic("pseudo data", up=up)
    objective = sum(part.objective * len(part.data) for part in parts) / len(data)
    return Generated(data, objective, failures, down, up)


def _content(
    federation: Federation,
    client: int,
    request: PseudoRequest,
    global_record: ArrayRecord | None,
) -> RecordDict:
    content = RecordDict(
        {
            "arrays": packed(federation.strategy.local_models.read(client)),
            "config": ConfigRecord(
                {
                    **federation.agreement(),
                    "client": client,
                    "images": request.budgets[client],
                    "kind": request.kind,
                    "seed": request.seed,
                }
            ),
        }
    )
    if global_record is not None:
        content["global"] = global_record
    return content


def _checked_images(
    federation: Federation, client: int, request: PseudoRequest, content: RecordDict
) -> PseudoReply:
    """Check a client's images, and that its soft labels are what its model says of them."""
    part = checked_pseudo_data(
        content,
        client=client,
        images=request.budgets[client],
        image_shape=federation.description.image_shape,
        classes=federation.description.classes,
    )
    teacher = federation.with_state(federation.strategy.local_models.read(client))
    check_soft_labels(part.data, teacher)
    return part
