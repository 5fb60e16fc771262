"""Have the clients evaluate models on their held-out images, and add up what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from foundation.messages.gather import gather
from foundation.messages.participants import Participants
from foundation.models import size_in_bytes
from questions.evaluation import Candidates, Scores, checked_scores


@dataclass(frozen=True)
class ClientEvaluation:
    """What the clients say of some candidates.

    Parameters
    ----------
    scores : dict[int, Scores]
        By client, in the order of the clients; those that hold images out and answered.
    failures : dict[int, str]
        Why the others that hold images out gave no valid answer.
    bytes_down, bytes_up : int
        What went to the clients, and what they sent.
    """

    scores: dict[int, Scores]
    failures: dict[int, str]
    bytes_down: int = 0
    bytes_up: int = 0

    @property
    def total(self) -> Scores | None:
        """The sums over clients; None where nothing was measured."""
        return Scores.sum(list(self.scores.values())) if self.scores else None


def evaluate_on_clients(
    grid: Grid,
    participants: Participants,
    candidates: Candidates,
    agreement: Mapping[str, Any],
    timeout: float,
    progress: Callable[[int, int], None] | None = None,
) -> ClientEvaluation:
    """Ask every client that holds images out what the candidates do on them, in one message each.

    The result does not depend on the order in which clients answer. Clients weigh what they said
    when they joined; a reply about another number of images is refused.

    Parameters
    ----------
    grid : Grid
        Flower's grid, or an in-process one.
    participants : Participants
        The clients.
    candidates : Candidates
        The models.
    agreement : Mapping
        What every message says of the data.
    timeout : float
        Seconds to wait for the answers.
    progress : callable, optional
        Called with how many have answered, and how many were asked.
    """
    participants.refresh(grid)
    judges = [client for client in participants.clients if sum(participants[client].held_out)]
    addresses = participants.addresses(judges)
    arrays = candidates.arrays()
    # One object for all: a model is packed once, and nobody changes it.
    question = RecordDict(
        {**arrays, "config": ConfigRecord({**agreement, **candidates.settings()})}
    )
    gathered = gather(
        grid,
        addresses,
        "evaluate",
        lambda client: question,
        lambda client, content: checked_scores(
            content, len(candidates), participants[client].held_out
        ),
        timeout,
        progress,
    )
    sent = sum(node is not None for node in addresses.values())
    size = sum(size_in_bytes(state.values()) for state in candidates.states)
    columns = sum(len(participants[client].held_out) for client in gathered.valid)
    return ClientEvaluation(
        gathered.valid,
        gathered.failures,
        bytes_down=sent * size,
        bytes_up=8 * (columns * (3 * len(candidates) + 1) + len(gathered.valid) * len(candidates)),
    )
