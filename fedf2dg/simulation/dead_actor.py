"""A killed process of Flower's simulation: Ray reports it, and Flower never replaces it."""

from __future__ import annotations

# What Ray says of a worker that was killed, and what is left of what it says of a lost machine.
_DEAD_ACTOR = "The actor is dead"
_WITH_ITS_NODE = f"{_DEAD_ACTOR} because its Ray node"


def dead_actor(reason: str) -> str | None:
    """Say why a run must stop if a client failed for this reason; None if it can go on.

    Flower hands the dead process out in every round to come: its clients would be missing ever
    after.
    """
    if not reason.startswith(_DEAD_ACTOR):
        return None
    if reason.startswith(_WITH_ITS_NODE):
        node = reason.removeprefix(_WITH_ITS_NODE)
        return (
            f"the Ray node{node}, and Flower would hand out its processes in every round to come. "
            "Start that node again, or go on without it, with resume-from"
        )
    return (
        "the process of a simulated client died, and Flower would hand out the dead one in "
        "every round to come. Most often memory ran out: use fewer processes "
        f"(client-resources-num-cpus) or --engine local, and go on with resume-from. {reason}"
    )
