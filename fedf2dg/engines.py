"""The ways in which a run is carried out on this machine."""

from __future__ import annotations

from typing import Literal, get_args

#: flower: ``flwr run`` with Ray. local: without Ray and without a server.
Engine = Literal["flower", "local"]

ENGINES: tuple[Engine, ...] = get_args(Engine)
