"""Participants that ask nodes who they are, as a run's do."""

from collections.abc import Mapping
from typing import Any

from foundation.messages.participants import Participants
from questions.description import DescriptionRequest, introducing


def meeting(
    expected: int,
    timeout: float = 120.0,
    *,
    columns: int | None = None,
    agreement: Mapping[str, Any] | None = None,
    identity: str = "node-id",
) -> Participants:
    """Return a federation's table of clients, still empty."""
    introduce = introducing(DescriptionRequest(columns=columns), agreement or {})
    return Participants(expected, timeout, introduce, identity)
