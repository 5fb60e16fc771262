"""The section ``head``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .declaration import Section, key

Form = Literal["auto", "discriminant", "ridge", "nearest-mean"]


@dataclass(frozen=True)
class HeadSettings(Section, name="head"):
    """A head in closed form, from one message of every client."""

    of: Form = key(
        "auto",
        "Which head: the linear discriminant, ridge regression on the classes, the nearest class "
        "mean; or auto, the discriminant unless the clients' held-out images tell for sure that "
        "another is better.",
        choices=get_args(Form),
        binds="generate",
    )
    balanced: bool = key(
        False,
        "Whether every class weighs the same, however many images the clients have of it.",
        binds="generate",
    )
