"""Ask clients, check what they answer, and sort it into valid answers and failures by client.

Every question of the server goes this way. :func:`gather` sends and collects; :func:`sort_replies`
is its second half, for replies that somebody else collected (Flower's own ``strategy.start``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from foundation.messages.exchange import exchange
from foundation.messages.flower_private import ErrorCode
from foundation.messages.reasons import short_reason
from foundation.messages.records import InvalidContent

T = TypeVar("T")

NOT_CONNECTED = "its node is not connected"
NO_REPLY = "no reply in time"


@dataclass(frozen=True)
class Gathered(Generic[T]):
    """What became of a question.

    Parameters
    ----------
    valid : dict[int, T]
        The checked answers, in the order of the clients.
    failures : dict[int, str]
        Why each of the others has none, in a few words, in the order of the clients.
    refused : frozenset[int]
        Those of the failures that spoke for themselves: the client raised an error or answered
        nonsense. The others were not connected, vanished, or were not heard in time.
    """

    valid: dict[int, T]
    failures: dict[int, str]
    refused: frozenset[int]


def gather(
    grid: Grid,
    addresses: Mapping[int, int | None],
    message_type: str,
    content: Callable[[int], RecordDict],
    check: Callable[[int, RecordDict], T],
    timeout: float,
    progress: Callable[[int, int], None] | None = None,
) -> Gathered[T]:
    """Ask clients, and return their checked answers.

    One message is built and one reply is checked at a time, so memory does not grow with the
    clients beyond what ``check`` returns.

    Parameters
    ----------
    grid : Grid
        Flower's grid, or an in-process one.
    addresses : Mapping[int, int | None]
        Whom to ask: client index to node id, None for a client that is not connected. See
        :meth:`foundation.messages.participants.Participants.addresses`.
    message_type : str
        Such as ``"train"`` or ``"query.label_counts"``.
    content : callable
        Builds the message's content for a client; called when it is the client's turn.
    check : callable
        Gets a client and the content of its reply, and returns what is worth keeping of it; raises
        :class:`InvalidContent` if the reply is of no use.
    timeout : float
        Seconds, as :func:`foundation.messages.exchange.exchange` counts them.
    progress : callable, optional
        Called with how many have answered or failed, and how many were asked.
    """
    connected = {client: node for client, node in addresses.items() if node is not None}
    messages = (
        Message(content=content(client), message_type=message_type, dst_node_id=node)
        for client, node in connected.items()
    )
    return sort_replies(exchange(grid, messages, timeout), addresses, check, progress)


def sort_replies(
    replies: Iterable[Message],
    addresses: Mapping[int, int | None],
    check: Callable[[int, RecordDict], T],
    progress: Callable[[int, int], None] | None = None,
) -> Gathered[T]:
    """Check replies one at a time as they come; see :func:`gather`.

    A client's first reply counts, whatever else comes under its name. Replies of nodes that were
    not asked are left aside.
    """
    clients = {node: client for client, node in addresses.items() if node is not None}
    valid: dict[int, T] = {}
    failures: dict[int, str] = {}
    refused: set[int] = set()
    unnamed: list[str] = []

    def sort(reply: Message) -> None:
        client = clients.get(reply.metadata.src_node_id)
        if client is None:
            if reply.has_error():
                unnamed.append(short_reason(reply.error.reason))
            return
        if client in valid or client in failures:
            return
        if reply.has_error():
            failures[client] = short_reason(reply.error.reason)
            if reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION:
                refused.add(client)
            return
        try:
            valid[client] = check(client, reply.content)
        except InvalidContent as error:
            failures[client] = str(error)
            refused.add(client)

    for reply in replies:
        sort(reply)
        del reply
        if progress is not None:
            progress(len(valid) + len(failures), len(clients))
    for client, node in addresses.items():
        if node is None:
            failures[client] = NOT_CONNECTED
        elif client not in valid and client not in failures:
            # A node that vanished is reported under another node id, so it is found by elimination.
            failures[client] = unnamed.pop() if unnamed else NO_REPLY
    return Gathered(dict(sorted(valid.items())), dict(sorted(failures.items())), frozenset(refused))
