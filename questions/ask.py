"""Ask clients a question: send, collect, check, name who failed, and count what travelled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from foundation.messages.content import CONFIG, Received, payload_bytes
from foundation.messages.frozen_layers import FrozenLayers
from foundation.messages.gather import gather, grouped
from foundation.messages.participants import Gathered, Participant, Participants

from .question import Request

A = TypeVar("A")


@dataclass(frozen=True)
class Answers(Gathered[A]):
    """What became of a question, with the bytes of the messages and of the valid answers."""

    bytes_down: int = 0
    bytes_up: int = 0
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def parts(self) -> list[A]:
        """The valid answers."""
        return list(self.valid.values())

    @property
    def who_failed(self) -> str:
        """Failures on one line, clients of one reason together; empty if there are none."""
        return grouped(self.failures, self.names)


def ask(
    grid: Grid,
    request: Request[A, Any],
    participants: Participants,
    *,
    agreement: Mapping[str, Any],
    timeout: float,
    progress: Callable[[int, int], None] | None = None,
) -> Answers[A]:
    """Ask clients, in one message each; the result does not depend on the order of their answers.

    Who of the ``participants`` is connected is looked up anew. ``agreement`` is what every message
    says of the data; ``timeout`` are the seconds to wait; ``progress`` is called with how many have
    answered of how many.
    """
    participants.refresh(grid)
    known = {client: participants[client] for client in request.clients(participants)}
    addresses = participants.addresses(known)
    frozen = participants.frozen
    found = ask_nodes(grid, request, known, addresses, agreement, timeout, progress, frozen)
    return replace(found, names=participants.names())


def ask_nodes(
    grid: Grid,
    request: Request[A, Any],
    known: Mapping[int, Participant],
    addresses: Mapping[int, int | None],
    agreement: Mapping[str, Any],
    timeout: float,
    progress: Callable[[int, int], None] | None = None,
    frozen: FrozenLayers | None = None,
) -> Answers[A]:
    """Ask through given nodes, None for a client that is not connected; see :func:`ask`."""
    common, frozen = request.content(), frozen or FrozenLayers({})
    sent = received = 0

    # Packed once for all clients that hold the frozen layers, and once for the others.
    @cache
    def packed(holds: bool) -> tuple[RecordDict, dict[str, Any]]:
        states, said = frozen.sent(common.states, holds)
        return replace(common, states=states).records(), said

    def content(client: int) -> RecordDict:
        nonlocal sent
        own = request.content_for(client)
        records, said = packed(frozen.held_by(client))
        states, said = frozen.sent(own.states, frozen.held_by(client), said)
        own = replace(own, states=states)
        settings = {**agreement, **common.settings, **own.settings, **said}
        message = RecordDict({**records, **own.records()})
        if settings:
            message[CONFIG] = ConfigRecord(settings)
        sent += payload_bytes(message)
        return message

    def check(client: int, reply: RecordDict) -> A:
        nonlocal received
        answer = request.checked(known[client], Received(reply))
        received += payload_bytes(reply)
        return answer

    message_type = f"query.{request.asks.name}"
    gathered = gather(grid, addresses, message_type, content, check, timeout, progress)
    if common.states:
        frozen.answered(gathered.valid, gathered.failures)
    outliers = request.outliers(gathered.valid)
    valid = {client: one for client, one in gathered.valid.items() if client not in outliers}
    failures = dict(sorted({**gathered.failures, **outliers}.items()))
    return Answers(valid, failures, gathered.refused, sent, received)
