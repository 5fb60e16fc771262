"""Which values a pseudo image may take; server and clients must agree on it."""

from __future__ import annotations

from typing import Protocol

from foundation.settings.configuration import RunConfiguration

Range = tuple[tuple[float, ...], tuple[float, ...]]


class Bounded(Protocol):
    """Normalisation constants, e.g. ``foundation.data.Normalization``."""

    def bounds(self) -> Range:
        """Return the lowest and highest normalised value of a real pixel, per channel."""
        ...


class Described(Protocol):
    """A description of the data, e.g. ``foundation.data.Description``."""

    @property
    def normalization(self) -> Bounded:
        """The data set's constants."""
        ...


def pixel_range(configuration: RunConfiguration, description: Described) -> Range | None:
    """Return the range of real pixels, which the corrected form keeps to.

    The constants of the normalisation are known to everybody, so this prior costs no data. The
    reference optimises pixels without bounds.
    """
    if configuration.generation.form == "reference":
        return None
    return description.normalization.bounds()
