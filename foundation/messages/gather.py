"""Ask clients, check what they answer, and sort it into valid answers and failures by client."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from foundation.messages.exchange import ErrorCode, exchange
from foundation.messages.participants import Gathered
from foundation.messages.records import InvalidContent

T = TypeVar("T")

NOT_CONNECTED = "its node is not connected"
NO_REPLY = "no reply in time"

_LONGEST = 300
# Sequences that would colour, move or rename the terminal that shows them (ECMA-48).
_CONTROL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?", re.DOTALL)
# Flower's own form of an exception, from clients of Ray and of SuperNodes.
_RAISED = re.compile(r"<class '[^']*'>:<['\"](.*)['\"]>\s*$", re.DOTALL)
# What Ray says of a process whose machine is gone; its last line does not name the machine.
_DEAD_NODE = re.compile(
    r"^\s*ip: (\S+)$.*^The actor died because its node has died\. Node Id: (\w+)",
    re.MULTILINE | re.DOTALL,
)
_WRAPPED = re.compile(r"Exception ClientAppException occurred\. Message: (.*)", re.DOTALL)


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
    clients beyond what ``check`` keeps of a reply; it raises :class:`InvalidContent` if that is of
    no use. ``content`` builds a client's message when it is its turn. ``addresses`` are node ids by
    client, None for one that is not connected; ``timeout`` are seconds, as :func:`exchange` counts
    them; ``progress`` is called with how many have answered or failed, and how many were asked.
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
    """Check replies as they come, also those that Flower's own ``strategy.start`` collected.

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


def short_reason(reason: str | None) -> str:
    """Return what a client raised, without the runtimes' wrapping and tracebacks.

    Nor anything that a terminal would obey: it is a stranger's text, and goes into the log.
    """
    text = _uncontrolled(reason or "")
    if raised := _RAISED.search(text):
        text = raised.group(1)
    if node := _DEAD_NODE.search(text):
        return f"The actor is dead because its Ray node {node[1]} (id {node[2][:12]}) died"
    wrapped = _WRAPPED.search(text)
    if wrapped:
        text = wrapped.group(1).rstrip("'> \n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    text = lines[-1] if lines else "no reason given"
    text = printable(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "…"


def printable(text: str) -> str:
    """Return a stranger's text without anything that a terminal would obey, on one line."""
    return "".join(c if c.isprintable() else "\ufffd" for c in _uncontrolled(text))


def _uncontrolled(text: str) -> str:
    return _CONTROL.sub("", text)


def grouped(failures: Mapping[int, str], names: Mapping[int, str]) -> str:
    """Write failures by client as one line, clients of one reason together, by their names."""
    clients: dict[str, list[str]] = {}
    for client, reason in sorted(failures.items()):
        clients.setdefault(reason, []).append(names.get(client) or f"client {client}")
    return "; ".join(f"{', '.join(those)}: {reason}" for reason, those in clients.items())
