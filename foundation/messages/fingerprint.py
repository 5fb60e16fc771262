"""A fingerprint of the code that server and clients must share.

Simulated clients import from the folder their SuperLink was started in, before the app that was
submitted; with two checkouts of this app, the server can run one and the clients the other, and
the run still "completes". So the server sends its fingerprint, and a client that runs other code
refuses to take part.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_SHARED = ("client_app", "strategies", "questions", "generation", "foundation")


@cache
def code_fingerprint() -> str:
    """Return a hash of the shared packages' sources, 16 hexadecimal digits."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for name in _SHARED:
        for file in sorted((root / name).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]
