"""The section ``logit-adjustment``."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import Section, key


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
