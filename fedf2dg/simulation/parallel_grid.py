"""The in-process grid with its clients in several processes, to use several processors."""

from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from foundation.messages.content import Received
from foundation.messages.exchange import as_a_task
from foundation.processes import Workers

from .local_grid import LocalGrid, RunConfig, answer, failure

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
