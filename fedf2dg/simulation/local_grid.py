"""An in-process grid: the same ServerApp, ClientApp and strategies, without Ray or a SuperLink."""

import time
import uuid
from collections.abc import Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from foundation.messages.exchange import ErrorCode, as_a_task, name_message

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
