"""Why clients failed, in words that fit on a line of the log."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LONGEST = 300
# Sequences that would colour, move or rename the terminal that shows them (ECMA-48).
_CONTROL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?", re.DOTALL)
# Flower's own form of an exception, from clients of Ray and of SuperNodes.
_RAISED = re.compile(r"<class '[^']*'>:<['\"](.*)['\"]>\s*$", re.DOTALL)
# What Ray says of a process whose machine is gone; its last line does not name the machine.
_DEAD_NODE = re.compile(
    r"^\s*ip: (\S+)$.*^The actor died because its node has died\. Node Id: (\w+)",
    re.MULTILINE | re.DOTALL,
)
_WRAPPED = re.compile(r"Exception ClientAppException occurred\. Message: (.*)", re.DOTALL)


def short_reason(reason: str | None) -> str:
    """Return what a client raised, without the runtimes' wrapping and tracebacks.

    Nor anything that a terminal would obey: it is a stranger's text, and goes into the log.
    """
    text = _uncontrolled(reason or "")
    if raised := _RAISED.search(text):
        text = raised.group(1)
    if node := _DEAD_NODE.search(text):
        return f"The actor is dead because its Ray node {node[1]} (id {node[2][:12]}) died"
    wrapped = _WRAPPED.search(text)
    if wrapped:
        text = wrapped.group(1).rstrip("'> \n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    text = lines[-1] if lines else "no reason given"
    text = printable(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "…"


def printable(text: str) -> str:
    """Return a stranger's text without anything that a terminal would obey, on one line."""
    return "".join(c if c.isprintable() else "\ufffd" for c in _uncontrolled(text))


def _uncontrolled(text: str) -> str:
    return _CONTROL.sub("", text)


def grouped(failures: Mapping[int, str]) -> str:
    """Write failures by client as one line, clients of one reason together."""
    clients: dict[str, list[str]] = {}
    for client, reason in sorted(failures.items()):
        clients.setdefault(reason, []).append(str(client))
    return "; ".join(
        f"client{'s' if len(names) > 1 else ''} {', '.join(names)}: {reason}"
        for reason, names in clients.items()
    )
