"""The section ``server-optimizer``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class ServerOptimizerSettings(Section, name="server-optimizer"):
    """The server's step of FedAdam, FedYogi, FedAdagrad, FedAvgM and q-FedAvg."""

    learning_rate: float = key(
        0.0,
        "Step η of the server's optimizer; 0: the strategy's own (fedadam, fedyogi 0.03, "
        "fedadagrad 0.01, fedavgm and qfedavg 1).",
        minimum=0.0,
    )
    beta1: float = key(
        0.9, "Decay β₁ of the first moment (fedadam, fedyogi).", minimum=0.0, maximum=0.999
    )
    beta2: float = key(
        0.99, "Decay β₂ of the second moment (fedadam, fedyogi).", minimum=0.0, maximum=0.9999
    )
    tau: float = key(
        1e-3, "Adaptivity τ, added to the root of the second moment (fedadam, …).", above=0.0
    )
    momentum: float = key(
        0.9, "Momentum β of the server's velocity (fedavgm).", minimum=0.0, maximum=0.999
    )
    fairness: float = key(
        0.1, "Exponent q of the clients' losses (qfedavg); 0 weighs all alike.", minimum=0.0
    )

    def step(self, default: float) -> float:
        """Return η, or a strategy's own where the key is 0."""
        return self.learning_rate or default
