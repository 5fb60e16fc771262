"""What can go wrong while images are generated."""

from foundation import ExpectedError


class InversionError(ExpectedError, RuntimeError):
    """The objective of an inversion stopped being a number, or there is nothing to optimise."""
