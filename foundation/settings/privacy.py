"""The section ``privacy``."""

from dataclasses import dataclass
from typing import Literal

from .declaration import Section, key

Clipping = Literal["none", "server-fixed", "server-adaptive", "client-fixed", "client-adaptive"]


@dataclass(frozen=True)
class PrivacySettings(Section, name="privacy"):
    """Differential privacy of the training, by Flower's wrappers and mods."""

    clipping: Clipping = key(
        "none",
        "Who bounds what a client's update changes, to a fixed norm or to one that follows a "
        "quantile of the updates' norms; noise of that size is then added to their mean. none: no "
        "differential privacy. client: by one of Flower's mods in the client.",
    )
    noise_multiplier: float = key(
        1.0,
        "Standard deviation of the noise on the sum of a round's updates.",
        unit="norms to which they are clipped",
        symbol="z",
        above=0.0,
    )
    clipping_norm: float = key(
        1.0, "Norm to which updates are clipped; where it adapts, in the first round.", above=0.0
    )
    epsilon: float = key(
        0.0,
        "Budget: training ends before a round that would spend more. 0: all rounds.",
        symbol="ε",
        minimum=0.0,
    )
    delta: float = key(
        1e-5,
        "Chance with which ε need not hold; far below 1 by the number of clients.",
        symbol="δ",
        above=0.0,
        below=1.0,
    )
    quantile: float = key(
        0.5, "Share of the updates that adaptive clipping is to leave whole.", above=0.0, below=1.0
    )
    quantile_step: float = key(
        0.2, "Step size with which the clipping norm follows the quantile.", above=0.0
    )
    count_noise: float = key(
        0.0,
        "Standard deviation of the noise on how many updates of a round were clipped; more than "
        "half of privacy.noise-multiplier. 0: a twentieth of the round's clients, or "
        "privacy.noise-multiplier where that is more.",
        unit="updates",
        minimum=0.0,
    )

    @property
    def on(self) -> bool:
        """Whether training is differentially private."""
        return self.clipping != "none"

    @property
    def at_clients(self) -> bool:
        """Whether the clients clip."""
        return self.clipping.startswith("client")

    @property
    def adapts(self) -> bool:
        """Whether the clipping norm follows the updates."""
        return self.clipping.endswith("adaptive")
