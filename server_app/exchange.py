"""Send messages and take their replies one at a time, as they come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from flwr.app import Message
from flwr.serverapp import Grid

_POLL_SECONDS = 0.1


def exchange(grid: Grid, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
    """Push messages one by one and yield every reply once, until all came or time is up.

    ``grid.send_and_receive`` holds all messages and all replies at once, each with a model in it.
    Here each is released before the next, so memory does not grow with the number of clients.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    messages : Iterable[Message]
        May be a generator; each is built when it is its turn.
    timeout : float
        Seconds after the last message was sent.
    """
    waiting: set[str] = set()
    for message in messages:
        waiting.update(grid.push_messages([message]))
    deadline = time.monotonic() + timeout
    while waiting:
        replies = list(grid.pull_messages(sorted(waiting)))
        came = bool(replies)
        for reply in replies:
            waiting.discard(reply.metadata.reply_to_message_id)
        while replies:
            yield replies.pop()
        if waiting:
            if time.monotonic() > deadline:
                return
            if not came:
                time.sleep(_POLL_SECONDS)
