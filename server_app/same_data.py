"""A simulation goes on with the images it began with; a real site may have new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .checkpoints import CheckpointError


def described_data(examples: Sequence[int], class_names: Sequence[str]) -> dict[str, list[Any]]:
    """Describe simulated clients' data for a checkpoint: images of each, and the classes."""
    return {"examples": list(examples), "classes": list(class_names)}


def require_same_data(before: dict[str, list[Any]], now: dict[str, list[Any]]) -> None:
    """Compare two descriptions.

    Raises
    ------
    CheckpointError
        If they differ; the message says in what.
    """
    if before != now:
        raise CheckpointError(
            f"this run had clients with {_listed(before['examples'])} training images of the "
            f"classes {_listed(before['classes'])}; here they have {_listed(now['examples'])} of "
            f"{_listed(now['classes'])}. Resume it with the data it was made with"
        )


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(map(str, values[:5]))
    return f"{shown}, …" if len(values) > 5 else shown
