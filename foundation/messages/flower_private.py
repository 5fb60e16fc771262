"""All that this app uses of Flower beyond its public interface (``flwr.app``, ``.clientapp`` …).

Tried with Flower 1.41.0 and 1.42.0. A newer Flower may move these names without notice: then this
file is the one to change.
"""

from __future__ import annotations

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.common.logger import update_console_handler
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["ErrorCode", "as_a_task", "name_message", "update_console_handler"]


def as_a_task() -> None:
    """Identify this process as a task: outside of one, messages cannot be built."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def name_message(message: Message, identity: str) -> None:
    """Give a message the identity that its reply refers to, as Flower's own grids do."""
    message.metadata.__dict__["_message_id"] = identity
