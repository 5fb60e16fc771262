"""The section ``robust``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class RobustSettings(Section, name="robust"):
    """Aggregation that bears malicious clients: Krum, Multi-Krum, Bulyan, the trimmed mean."""

    malicious_clients: int = key(
        1,
        "Malicious clients f of a round that krum, multikrum and bulyan must bear.",
        unit="clients",
        minimum=0,
    )
    clients_to_keep: int = key(
        0,
        "Clients that multikrum averages; 0: all of a round but f + 2.",
        unit="clients",
        minimum=0,
    )
    trimmed_fraction: float = key(
        0.2,
        "Fraction β of the clients that fedtrimmedavg leaves out at either end, coordinate by "
        "coordinate; below 0.5.",
        minimum=0.0,
        maximum=0.499,
    )
