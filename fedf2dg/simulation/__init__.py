"""Simulated federations: in one process without Ray and a SuperLink, or as Flower does them."""

from typing import Literal, get_args

from fedf2dg import prefer_ours

prefer_ours()

#: flower: ``flwr run`` with Ray. local: without Ray and without a server.
Engine = Literal["flower", "local"]

ENGINES: tuple[Engine, ...] = get_args(Engine)
