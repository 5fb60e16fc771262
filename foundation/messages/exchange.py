"""Send messages and take their replies one at a time, as they come.

Here stands, too, all that this app uses of Flower beyond its public interface. Tried with Flower
1.41.0 and 1.42.0. A newer Flower may move these names: then this file is the one to change.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.common.logger import update_console_handler
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["ErrorCode", "as_a_task", "exchange", "name_message", "update_console_handler"]

_POLL_SECONDS = 0.1
# After looking in vain: so many times as long as looking took.
_PAUSE = 4
# A SuperLink gives all replies that are ready, each with a model in it.
_ASKED_FOR_AT_ONCE = 4


def exchange(grid: Grid, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
    """Push messages one by one and yield every reply once, until all came or time is up.

    ``grid.send_and_receive`` holds all messages and all replies at once, each with a model in it.
    Here a message is released before the next one is built, and replies are asked for a few at a
    time, so memory does not grow with the number of clients.

    A grid inside this process holds what it is given until the client's turn comes. It says in
    ``window`` how many messages it has use for at the same time; the next one is built when a place
    is free.

    ``timeout`` are seconds after the last message was sent; a reply that was ready by then is still
    taken. On a grid whose clients only wait for a free processor of this machine
    (``always_answers``), there is no limit here: how many are heard must not depend on how long
    they wait. The grid itself ends a client that takes too long, counted from when it began.
    """
    if getattr(grid, "always_answers", False):
        timeout = math.inf
    window: float = getattr(grid, "window", math.inf)
    unsent = iter(messages)
    waiting: deque[str] = deque()
    deadline = math.inf

    def send() -> None:
        nonlocal deadline
        while len(waiting) < window and (pushed := _push_next(grid, unsent)):
            waiting.extend(pushed)
            deadline = time.monotonic() + timeout

    in_vain, began = 0, time.monotonic()
    send()
    while waiting:
        asked = list(waiting)[:_ASKED_FOR_AT_ONCE]
        replies = list(grid.pull_messages(asked))
        if replies:
            for reply in replies:
                if reply.metadata.reply_to_message_id in waiting:
                    waiting.remove(reply.metadata.reply_to_message_id)
            del reply
            while replies:
                yield replies.pop()
                send()
            in_vain, began = 0, time.monotonic()
            continue
        waiting.rotate(-len(asked))
        in_vain += len(asked)
        if in_vain >= len(waiting):
            now = time.monotonic()
            if now > deadline:
                # Who has not answered by now is given up; the next ones take their places.
                waiting.clear()
                send()
            else:
                # Asking for 50 replies takes a SuperLink a while, which its sites have to wait.
                pause = max(_POLL_SECONDS, _PAUSE * (now - began))
                time.sleep(min(pause, max(deadline - now, _POLL_SECONDS)))
            in_vain, began = 0, time.monotonic()


def _push_next(grid: Grid, unsent: Iterator[Message]) -> list[str]:
    """Push the next message; return its identity, or nothing if there is none left.

    A function of its own, so that no variable keeps the message alive.
    """
    return [identity for message in islice(unsent, 1) for identity in grid.push_messages([message])]


def as_a_task() -> None:
    """Identify this process as a task: outside of one, messages cannot be built."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def name_message(message: Message, identity: str) -> None:
    """Give a message the identity that its reply refers to, as Flower's own grids do."""
    message.metadata.__dict__["_message_id"] = identity
