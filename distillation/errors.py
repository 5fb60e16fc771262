"""What can go wrong while knowledge is distilled."""


class DistillationError(RuntimeError):
    """The loss of a distillation stopped being a number."""
