"""The two forms in which the method is written down."""

from __future__ import annotations

from typing import Literal, get_args

#: corrected: as the papers define it. reference: as the published program computes it.
Form = Literal["corrected", "reference"]

FORMS: tuple[Form, ...] = get_args(Form)
