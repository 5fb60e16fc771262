"""What can go wrong while knowledge is distilled."""

from foundation import ExpectedError


class DistillationError(ExpectedError, RuntimeError):
    """The loss of a distillation stopped being a number."""
