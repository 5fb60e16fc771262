"""A fingerprint of the code that server and clients must share.

Simulated clients import from the folder their SuperLink was started in, before the app that was
submitted: with two checkouts, server and clients can run different ones, and the run still
"completes". So a client that runs other code than the server's fingerprint says refuses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from foundation.settings.configuration import member_files

_SHARED = ("client_app", "strategies", "questions", "generation", "foundation")


def code_fingerprint(values: Mapping[str, Any]) -> str:
    """Return a hash of the shared packages' sources, 16 hexadecimal digits.

    The files of members of a user's own count, too; a ConfigurationError if one is not here.
    """
    digest = _digest_of_shared().copy()
    for name, file in member_files(values):
        digest.update(name.encode())
        digest.update(_content(file))
    return digest.hexdigest()[:16]


@cache
def _digest_of_shared() -> hashlib._Hash:
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for name in _SHARED:
        for file in sorted((root / name).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(_content(file))
    return digest


def _content(file: Path) -> bytes:
    return file.read_bytes().replace(b"\r\n", b"\n")
