"""What can go wrong while images are generated."""

from foundation import ExpectedError


class InversionError(ExpectedError, RuntimeError):
    """Images cannot be generated; the message says why, and what to change."""


class UninvertibleModel(InversionError):
    """One model cannot be inverted, or what comes out is absurd; others may well be."""
