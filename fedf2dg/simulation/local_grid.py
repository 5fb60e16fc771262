"""An in-process grid: the same ServerApp, ClientApp and strategies, without Ray or a SuperLink."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from foundation.messages.content import Received
from foundation.messages.exchange import ErrorCode, as_a_task, name_message
from foundation.processes import Workers

RunConfig = Mapping[str, str | int | float | bool]


class LocalGrid(Grid):
    """Runs a ClientApp for a number of virtual nodes, one message at a time.

    A client runs when its reply is pulled, and only one message and one reply exist at a time, so
    that memory does not grow with the number of clients.
    """

    #: Messages that are of use at the same time; :func:`.exchange` keeps to it.
    window: float = 1

    def __init__(
        self, client_app: ClientApp, num_nodes: int, run_config: RunConfig | None = None
    ) -> None:
        as_a_task()
        self._app = client_app
        self._run_config = dict(run_config or {})
        self._partitions = {100 + index: index for index in range(num_nodes)}
        self._contexts: dict[int, Context] = {}
        self._queue: dict[str, Message] = {}
        self._run: object | None = None

    def set_run(self, run: object) -> None:
        self._run = run

    @property
    def run(self):  # type: ignore[no-untyped-def]
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return list(self._partitions)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Queue messages; nothing runs yet."""
        pushed = []
        for message in messages:
            identity = self._identify(message)
            self._queue[identity] = message
            pushed.append(identity)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Run the first of the queued messages and return its reply."""
        wanted = set(message_ids)
        for identity in list(self._queue):  # in the order they were pushed
            if identity in wanted:
                return [self._reply(self._queue.pop(identity))]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        deadline = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        waiting = set(self.push_messages(messages))
        while waiting and (deadline is None or time.monotonic() < deadline):
            for reply in self.pull_messages(waiting):
                replies.append(reply)
                waiting.remove(reply.metadata.reply_to_message_id)
        return replies

    def _reply(self, message: Message) -> Message:
        return answer(self._app, message, self._context(message.metadata.dst_node_id))

    def _identify(self, message: Message) -> str:
        identity = uuid.uuid4().hex
        name_message(message, identity)
        return identity

    def _context(self, node: int) -> Context:
        if node not in self._contexts:
            self._contexts[node] = Context(
                run_id=1,
                node_id=node,
                node_config={
                    "partition-id": self._partitions[node],
                    "num-partitions": len(self._partitions),
                },
                state=RecordDict(),
                run_config=self._run_config,
            )
        return self._contexts[node]


def answer(app: ClientApp, message: Message, context: Context) -> Message:
    """Return a client's reply; whatever it raises becomes one, as in Flower's runtimes."""
    try:
        reply = app(message, context)
        if not isinstance(reply, Message):
            raise TypeError(f"the handler returned {type(reply).__name__}, and no message")
        return reply
    except Exception as error:
        return failure(message, error)


def failure(message: Message, error: Exception) -> Message:
    """Return the reply that says how a client failed."""
    reason = f"{type(error).__name__}: {error}"
    return Message(
        Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message
    )


# Messages per process: one it works on, and one that is ready when it is done.
_MESSAGES_PER_PROCESS = 2
# A reply is asked for by name, and others may come before it.
_WAIT_SECONDS = 0.01


class ParallelGrid(LocalGrid):
    """Runs a ClientApp for a number of virtual nodes, in as many processes as there are workers.

    ``load``, a function of a module, returns the ClientApp in each process. The process of a client
    that takes longer than ``timeout`` seconds is ended, and its reply is an error.
    """

    #: A client that was asked answers, if only with its error: nobody need stop waiting. How many
    #: are heard must not depend on how long a client waited for a free process.
    always_answers = True

    def __init__(
        self,
        load: Callable[[], ClientApp],
        num_nodes: int,
        workers: Workers,
        run_config: RunConfig | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(load(), num_nodes, run_config)
        self._timeout = timeout
        self._load = load
        self._workers = workers
        self.window = _MESSAGES_PER_PROCESS * workers.count
        self._sent: dict[str, Message] = {}
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Give messages to the processes; they begin with them as they become free."""
        pushed = []
        for message in messages:
            identity = self._identify(message)
            context = self._context(message.metadata.dst_node_id)
            limit = self._timeout
            if limit is not None:
                # A message that asks for the work of several rounds says so.
                asked = Received(message.content).setting("rounds", 1)
                limit *= max(1, asked if isinstance(asked, int) else 1)
            self._workers.submit(identity, _run_client, self._load, message, context, timeout=limit)
            self._sent[identity] = message
            pushed.append(identity)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return those of the replies that are there; waits a moment if none is."""
        asked = list(message_ids)
        if not any(identity in self._replies for identity in asked):
            for event in self._workers.events(_WAIT_SECONDS):
                message = self._sent.pop(event.key, None)
                if message is None or not event.done:
                    continue
                if event.error is None:
                    reply, state = event.value
                    self._context(message.metadata.dst_node_id).state = state
                else:
                    reply = failure(message, event.error)
                self._replies[event.key] = reply
        return [self._replies.pop(identity) for identity in asked if identity in self._replies]


def _run_client(
    report: Any, load: Callable[[], ClientApp], message: Message, context: Context
) -> tuple[Message, RecordDict]:
    as_a_task()
    return answer(load(), message, context), context.state
