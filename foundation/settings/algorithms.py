"""The sections of the federated algorithms and of the local losses."""

from dataclasses import dataclass

from .declaration import Section, key


@dataclass(frozen=True)
class MoonSettings(Section, name="moon"):
    """MOON's settings (Li et al. 2021)."""

    mu: float = key(
        1.0, "Weight μ of the model-contrastive loss.", symbol="μ", minimum=0.0, original="mu"
    )
    temperature: float = key(0.5, "Temperature of the contrastive loss.", symbol="τ", above=0.0)
    projection_dim: int = key(
        256,
        "Output size of the projection head; used by the strategy moon only.",
        minimum=1,
        original="out_dim",
    )


@dataclass(frozen=True)
class FedDynSettings(Section, name="feddyn"):
    """FedDyn's setting (Acar et al. 2021)."""

    alpha: float = key(
        0.05, "Weight α of the pull (α/2)·‖y − x‖², and of what is remembered.", above=0.0
    )


@dataclass(frozen=True)
class FedACGSettings(Section, name="fedacg"):
    """FedACG's settings (Kim et al. 2024)."""

    momentum: float = key(
        0.85, "Momentum λ of the server, by which clients look ahead.", minimum=0.0, maximum=0.999
    )
    pull: float = key(
        0.01, "Weight β of the pull (β/2)·‖y − z‖² to where a client started.", minimum=0.0
    )


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


@dataclass(frozen=True)
class LogitAdjustmentSettings(Section, name="logit-adjustment"):
    """Local losses that adjust logits by the client's own label counts."""

    tau: float = key(
        1.0,
        "Strength τ of the local losses logit-adjusted and calibrated (fedlc); 0 is cross-entropy.",
        minimum=0.0,
    )
    epsilon: float = key(
        1e-4, "Prior ε that logit-adjusted gives a class without images.", above=0.0, maximum=1.0
    )


@dataclass(frozen=True)
class FedRSSettings(Section, name="fedrs"):
    """FedRS's settings (Li and Zhan 2021)."""

    alpha: float = key(
        0.5,
        "Factor α of the logits of classes that a client does not have; 1 is cross-entropy.",
        minimum=0.0,
        maximum=1.0,
    )


@dataclass(frozen=True)
class FedNTDSettings(Section, name="fedntd"):
    """FedNTD's settings (Lee et al. 2022)."""

    beta: float = key(
        1.0, "Weight β of the not-true distillation; 0 is cross-entropy.", minimum=0.0
    )
    temperature: float = key(1.0, "Temperature T of the not-true distillation.", above=0.0)


@dataclass(frozen=True)
class FedVLSSettings(Section, name="fedvls"):
    """FedVLS's settings (Guo et al. 2025)."""

    distillation: float = key(1.0, "Weight λ of the vacant-class distillation.", minimum=0.0)
    suppression: float = key(0.005, "Weight w of the logit suppression.", minimum=0.0)
