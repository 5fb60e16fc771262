"""What can go wrong while images are generated."""


class InversionError(RuntimeError):
    """The objective of an inversion stopped being a number, or there is nothing to optimise."""
