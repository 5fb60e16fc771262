"""A killed process of Flower's simulation: Ray reports it, and Flower never replaces it."""

from __future__ import annotations

# What Ray says of a worker that was killed.
_DEAD_ACTOR = "The actor is dead"


def dead_actor(reason: str) -> str | None:
    """Say why a run must stop if a client failed for this reason; None if it can go on.

    Flower hands the dead process out in every round to come: its clients would be missing ever
    after.
    """
    if not reason.startswith(_DEAD_ACTOR):
        return None
    return (
        "the process of a simulated client died, and Flower would hand out the dead one in "
        "every round to come. Most often memory ran out: use fewer processes "
        f"(client-resources-num-cpus) or --engine local, and go on with resume-from. {reason}"
    )
